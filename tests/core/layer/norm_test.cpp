#include "core/layer/norm.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <gmock/gmock.h>

#include <cmath>
#include <functional>
#include <mutex>
#include <set>
#include <thread>

#include "core/layer/rms_norm.h"

namespace hippodrome::norm_test {
namespace {

constexpr double kEpsilon = 1e-5;

Tensor random(std::vector<int64_t> sizes, const std::string& name, double scale = 1.0) {
  Tensor value = at::empty(sizes, at::kDouble);
  initialise::normal(scale)(value, RandomStream(1, name));
  return value;
}

// Zhang & Sennrich's formula, written out.
Tensor plain_rms_norm(const Tensor& x, const Tensor& weight) {
  return x.div(x.square().mean({-1}, true).add(kEpsilon).sqrt()).mul(weight);
}

// (f(v + εd) − f(v − εd)) / 2ε against gradient · d.
double directional_error(const std::function<Tensor(const Tensor&)>& f, const Tensor& value, const Tensor& gradient) {
  const at::NoGradGuard no_grad;
  const Tensor direction = random(value.sizes().vec(), "direction");
  constexpr double kStep = 1e-6;
  const double above = f(value.add(direction, kStep)).item().toDouble(), below = f(value.sub(direction, kStep)).item().toDouble();
  const double numeric = (above - below) / (2 * kStep), analytic = gradient.mul(direction).sum().item().toDouble();
  return std::abs(numeric - analytic) / std::max(1.0, std::abs(numeric));
}

TEST(RmsNorm, EqualsTheFormula) {
  for (const auto& sizes : std::vector<std::vector<int64_t>>{{3, 8}, {2, 5, 7}, {1, 1}, {300, 33}, {4, 1}}) {
    const Tensor x = random(sizes, "x", 3.0), weight = random({sizes.back()}, "weight");
    EXPECT_LT(rms_norm(x, weight, kEpsilon).sub(plain_rms_norm(x, weight)).abs().max().item().toDouble(), 1e-12);
    const Tensor single = rms_norm(x.to(at::kFloat), weight.to(at::kFloat), kEpsilon);
    EXPECT_LT(single.sub(plain_rms_norm(x, weight)).abs().max().item().toDouble(), 1e-4);
  }
}

TEST(RmsNorm, HasTheGradientsOfFiniteDifferences) {
  for (const auto& sizes : std::vector<std::vector<int64_t>>{{3, 8}, {2, 20, 7}, {200, 5}, {1, 1}}) {
    const Tensor x = random(sizes, "x", 2.0).requires_grad_(true), weight = random({sizes.back()}, "weight").requires_grad_(true);
    const Tensor dy = random(sizes, "dy");
    rms_norm(x, weight, kEpsilon).mul(dy).sum().backward();
    EXPECT_LT(directional_error([&](const Tensor& v) { return rms_norm(v, weight, kEpsilon).mul(dy).sum(); }, x.detach(), x.grad()), 1e-7);
    EXPECT_LT(directional_error([&](const Tensor& v) { return rms_norm(x, v, kEpsilon).mul(dy).sum(); }, weight.detach(), weight.grad()), 1e-7);
  }
}

TEST(RmsNorm, TakesViewsAndEmptyBatches) {
  const Tensor x = random({8, 6}, "x").requires_grad_(true), weight = at::ones({8}, at::kDouble);
  const Tensor y = rms_norm(x.t(), weight, kEpsilon);
  EXPECT_TRUE(at::equal(y, rms_norm(x.t().contiguous(), weight, kEpsilon)));
  // A gradient that is a view, too.
  y.t().select(0, 3).sum().backward();
  EXPECT_LT(directional_error([&](const Tensor& v) { return plain_rms_norm(v.t(), weight).t().select(0, 3).sum(); }, x.detach(), x.grad()), 1e-7);
  EXPECT_EQ(rms_norm(random({0, 8}, "none"), weight, kEpsilon).numel(), 0);
}

TEST(RmsNorm, RefusesAWeightThatDoesNotFit) {
  const Tensor x = random({3, 8}, "x");
  EXPECT_THROW(rms_norm(x, at::ones({7}, at::kDouble), kEpsilon), c10::Error);
  EXPECT_THROW(rms_norm(x, at::ones({8}, at::kFloat), kEpsilon), c10::Error);
  EXPECT_THROW(rms_norm(x, at::ones({16}, at::kDouble).slice(0, 0, 16, 2), kEpsilon), c10::Error);
}

TEST(RmsNorm, GivesTheSameBitsOnAnyNumberOfThreads) {
  const Tensor weight = random({64}, "weight").to(at::kFloat), dy = random({1000, 64}, "dy").to(at::kFloat);
  const int before = at::get_num_threads();
  const auto run = [&](int threads) {
    at::set_num_threads(threads);
    const Tensor x = random({1000, 64}, "x").to(at::kFloat).requires_grad_(true), w = weight.clone().requires_grad_(true);
    const Tensor y = rms_norm(x, w, kEpsilon);
    y.mul(dy).sum().backward();
    at::set_num_threads(before);
    return std::vector<Tensor>{y, x.grad(), w.grad()};
  };
  const auto one = run(1), two = run(2), three = run(3);
  for (size_t i = 0; i < one.size(); ++i) {
    EXPECT_TRUE(at::equal(one[i], two[i])) << i;
    EXPECT_TRUE(at::equal(one[i], three[i])) << i;
  }
}

// Without -fopenmp on the files that include ATen/Parallel.h, at::parallel_for is silently serial. It is a template, so this
// file and core's own are each on trial: this one here, core's by the flag that all targets share.
TEST(ParallelFor, MakesSeveralChunks) {
  if (at::get_num_threads() < 2) GTEST_SKIP() << "one thread";
  std::mutex mutex;
  int chunks = 0;
  int64_t covered = 0;
  at::parallel_for(0, 1000, 1, [&](int64_t begin, int64_t end) {
    const std::lock_guard<std::mutex> lock(mutex);
    ++chunks;
    covered += end - begin;
  });
  EXPECT_EQ(covered, 1000);
  EXPECT_GE(chunks, 2) << "at::parallel_for runs serially: is -fopenmp missing?";
#ifndef _OPENMP
  FAIL() << "this file was compiled without -fopenmp";
#endif
}

TEST(Norm, NormalisesOverTheLastDimension) {
  const Tensor x = random({2, 3, 16}, "x", 4.0).add(2.0);
  Norm layer_norm(Norm::Kind::kLayerNorm, 16, kEpsilon), root_mean_square(Norm::Kind::kRmsNorm, 16, kEpsilon);
  EXPECT_EQ(layer_norm.parameters().count(), 32);
  EXPECT_EQ(root_mean_square.parameters().count(), 16);
  layer_norm.parameters().materialise(1, at::kDouble);
  root_mean_square.parameters().materialise(1, at::kDouble);
  const Tensor centred = x.sub(x.mean({-1}, true));
  const Tensor expected = centred.div(centred.square().mean({-1}, true).add(kEpsilon).sqrt());
  EXPECT_LT(layer_norm.forward(x).sub(expected).abs().max().item().toDouble(), 1e-12);
  EXPECT_LT(root_mean_square.forward(x).sub(plain_rms_norm(x, at::ones({16}, at::kDouble))).abs().max().item().toDouble(), 1e-12);
}

TEST(Norm, TakesItsStatisticsInFloat32AndGivesBackItsInputsDtype) {
  for (const Norm::Kind kind : {Norm::Kind::kLayerNorm, Norm::Kind::kRmsNorm}) {
    Norm norm(kind, 256, kEpsilon);
    norm.parameters().materialise(1, at::kFloat);
    for (const ParameterPtr& parameter : norm.parameters().list()) {
      EXPECT_TRUE(parameter->facts.keep_float32);
      EXPECT_FALSE(parameter->facts.weight_decay);
    }
    // A sum of squares of these in bfloat16 would be off by percents.
    const Tensor x = random({4, 256}, "x", 30.0).to(at::kBFloat16);
    const Tensor y = norm.forward(x);
    EXPECT_EQ(y.scalar_type(), at::kBFloat16);
    const Tensor wide = norm.forward(x.to(at::kFloat));
    EXPECT_LT(y.to(at::kFloat).sub(wide).abs().max().item().toDouble(), 0.01 * wide.abs().max().item().toDouble());
  }
}

}  // namespace
}  // namespace hippodrome::norm_test
