#include "architectures/rwkv/wkv4/wkv4.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <hwy/targets.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "architectures/rwkv/wkv4/op.h"
#include "architectures/rwkv/wkv4/reference.h"
#include "tests/architectures/rwkv/wkv4_problem.h"

namespace hippodrome {
namespace wkv4_test {
namespace {

class Wkv4 : public op_checks::EmptyIsNan {};

TEST_F(Wkv4, GoldenVector) {
  const auto column = [](std::vector<double> x) { return at::tensor(x, at::kDouble).view({1, -1, 1}); };
  const Tensor k = column({0.2, -1, 1.5, 0.3}), v = column({1, -2, 0.5, 3});
  const Tensor w = at::tensor({-std::exp(-0.7)}, at::kDouble), u = at::tensor({0.4}, at::kDouble);
  const double expected[] = {1.0, 0.06992344, 0.42971481, 1.15546858};
  for (const Wkv4Result& out : {wkv4(w, u, k, v), wkv4_reference(w, u, k, v)}) {
    for (int64_t t = 0; t < 4; ++t) EXPECT_NEAR(out.y[0][t][0].item<double>(), expected[t], 5e-9);
    EXPECT_NEAR(out.last_state[0][0][0].item<double>(), 1.98570868, 5e-9);
    EXPECT_NEAR(out.last_state[0][1][0].item<double>(), 1.64579577, 5e-9);
    EXPECT_NEAR(out.last_state[0][2][0].item<double>(), 1.0034147, 5e-8);
  }
}

TEST_F(Wkv4, FusedEqualsReference) {
  for (int64_t time : {1, 2, 3, 63, 64, 65, 129, 257}) {
    for (int64_t channels : {1, 3, 16, 17, 40}) {
      for (int variant = 0; variant < 8; ++variant) {
        const Problem problem(variant & 4 ? 3 : 1, time, channels, variant & 1, variant & 2, 10 * time + channels);
        const auto exact = run(wkv4_reference, problem, at::kDouble);
        const auto fused64 = run(wkv4, problem, at::kDouble);
        const auto fused = run(wkv4, problem, at::kFloat);
        const auto plain = run(wkv4_reference, problem, at::kFloat);
        for (size_t i = 0; i < exact.size(); ++i) {
          SCOPED_TRACE(std::string(kNames[i]) + " T " + std::to_string(time) + " C " + std::to_string(channels) +
                       " variant " + std::to_string(variant));
          EXPECT_LE(relative_rms(fused64[i], exact[i]), 1e-13);
          // Gradients of w and u are sums over (b, t) that may cancel, and here over as little as one channel.
          const double floor = i == 2 || i == 3 ? 4e-6 : 1e-6;
          EXPECT_LE(relative_rms(fused[i], exact[i]),
                    std::max(floor, (i < 2 ? 2 : 3) * relative_rms(plain[i], exact[i])));
        }
      }
    }
  }
}

TEST_F(Wkv4, WithoutGradientOfTheFinalState) {
  const Problem problem(2, 130, 20, true, true);
  const auto exact = run(wkv4_reference, problem, at::kDouble, false);
  const auto fused = run(wkv4, problem, at::kDouble, false);
  for (size_t i = 0; i < exact.size(); ++i) EXPECT_LE(relative_rms(fused[i], exact[i]), 1e-13) << kNames[i];
}

// d loss / d x by central differences, for every element of every input, the state's maximum included.
TEST_F(Wkv4, ReferenceGradientsAgreeWithFiniteDifferences) {
  for (int variant = 0; variant < 4; ++variant) {
    const Problem problem(2, 9, 3, true, variant & 1, 100 + variant);
    const bool with_final_state = variant & 2;
    const auto gradients = run(wkv4_reference, problem, at::kDouble, with_final_state);
    const auto loss = [&](const std::vector<Tensor>& x) {
      const Wkv4Result out = wkv4_reference(x[0], x[1], x[2], x[3], x[4], problem.positions);
      double sum = (out.y * problem.grad_y).sum().item<double>();
      if (with_final_state) sum += (out.last_state * problem.grad_state).sum().item<double>();
      return sum;
    };
    std::vector<Tensor> inputs = {problem.w.clone(), problem.u.clone(), problem.k.clone(), problem.v.clone(),
                                  problem.state->clone()};
    for (size_t i = 0; i < inputs.size(); ++i) {
      const Tensor differences = op_checks::central_differences(inputs[i], 1e-6, [&] { return loss(inputs); });
      EXPECT_LE(op_checks::farthest(gradients[i + 2], differences), 1e-7) << kNames[i + 2];
    }
  }
}

// Values and gradients through the carried state equal those of the whole, at every cut.
TEST_F(Wkv4, SplitAnywhere) {
  for (bool with_positions : {false, true}) {
    const int64_t time = 70;
    const Problem problem(2, time, 5, true, with_positions, 7);
    for (at::ScalarType type : {at::kDouble, at::kFloat}) {
      const auto whole = run(wkv4, problem, type);
      for (int64_t cut = 0; cut <= time; ++cut) {
        const auto leaf = [&](const Tensor& x) { return x.to(type).clone().requires_grad_(true); };
        const std::vector<Tensor> in = {leaf(problem.w), leaf(problem.u), leaf(problem.k), leaf(problem.v),
                                        leaf(*problem.state)};
        const auto part = [&](int64_t begin, int64_t end, const Tensor& state) {
          MaybeTensor positions;
          if (problem.positions) positions = problem.positions->slice(1, begin, end);
          return wkv4(in[0], in[1], in[2].slice(1, begin, end), in[3].slice(1, begin, end), state, positions);
        };
        const auto first = part(0, cut, in[4]);
        const auto second = part(cut, time, first.last_state);
        std::vector<Tensor> got = {at::cat({first.y, second.y}, 1).detach(), second.last_state.detach()};
        for (const Tensor& g :
             torch::autograd::grad({first.y, second.y, second.last_state}, in,
                                   {problem.grad_y.slice(1, 0, cut).to(type),
                                    problem.grad_y.slice(1, cut, time).to(type), problem.grad_state.to(type)})) {
          got.push_back(g);
        }
        for (size_t i = 0; i < got.size(); ++i) {
          EXPECT_LE(relative_rms(got[i], whole[i]), type == at::kDouble ? 1e-13 : 2e-6) << kNames[i] << " cut " << cut;
        }
      }
    }
  }
}

// A state of another scale but the same true numerator and denominator continues alike.
TEST_F(Wkv4, ScaleOfTheStateDoesNotMatter) {
  Problem problem(2, 20, 6, true, false, 9);
  const auto expected = run(wkv4, problem, at::kDouble, false);
  problem.state->narrow(1, 0, 2).mul_(std::exp(-1.5));
  problem.state->select(1, 2).add_(1.5);
  const auto rescaled = run(wkv4, problem, at::kDouble, false);
  for (size_t i : {0, 2, 3, 4, 5}) EXPECT_LE(relative_rms(rescaled[i], expected[i]), 1e-13) << kNames[i];
}

TEST_F(Wkv4, PaddingChangesNothing) {
  const int64_t time = 67, padded_time = 90;
  const Problem problem(1, time, 19, true, false, 11);
  Problem padded(1, padded_time, 19, false, false, 12);
  padded.w = problem.w;
  padded.u = problem.u;
  padded.state = problem.state;
  padded.grad_state = problem.grad_state;
  Tensor positions = at::full({1, padded_time}, -1, at::kLong);
  std::vector<int64_t> places;
  for (int64_t t = 0; static_cast<int64_t>(places.size()) < time; t += t % 4 == 1 ? 2 : 1) places.push_back(t);
  ASSERT_LT(places.back(), padded_time);
  for (int64_t i = 0; i < time; ++i) {
    positions[0][places[i]] = 40 + i;
    padded.k[0][places[i]].copy_(problem.k[0][i]);
    padded.v[0][places[i]].copy_(problem.v[0][i]);
    padded.grad_y[0][places[i]].copy_(problem.grad_y[0][i]);
  }
  padded.positions = positions;
  for (auto* op : {&wkv4, &wkv4_reference}) {
    const auto expected = run(*op, problem, at::kDouble);
    auto got = run(*op, padded, at::kDouble);
    const Tensor real = at::tensor(places, at::kLong), filler = (positions[0] < 0).nonzero().view(-1);
    for (size_t i : {0, 4, 5}) {
      EXPECT_EQ(got[i].index_select(1, filler).abs().max().item<double>(), 0) << kNames[i];
      got[i] = got[i].index_select(1, real);
    }
    for (size_t i = 0; i < got.size(); ++i) EXPECT_LE(relative_rms(got[i], expected[i]), 1e-13) << kNames[i];
  }
}

TEST_F(Wkv4, PackedSequencesAreSeparate) {
  const Problem problem(1, 90, 18, true, false, 13);
  const int64_t cut = 37;
  Tensor positions = at::empty({1, 90}, at::kLong);
  for (int64_t t = 0; t < 90; ++t) positions[0][t] = t < cut ? t + 3 : t - cut;
  const auto packed = wkv4(problem.w, problem.u, problem.k, problem.v, problem.state, positions);
  const auto first = wkv4(problem.w, problem.u, problem.k.slice(1, 0, cut), problem.v.slice(1, 0, cut), problem.state);
  const auto second = wkv4(problem.w, problem.u, problem.k.slice(1, cut), problem.v.slice(1, cut));
  EXPECT_TRUE(same_bits(packed.y.slice(1, 0, cut), first.y));
  EXPECT_TRUE(same_bits(packed.y.slice(1, cut), second.y));
  EXPECT_TRUE(same_bits(packed.last_state, second.last_state));
}

TEST_F(Wkv4, AllPaddingHandsTheStateOn) {
  const Problem problem(2, 5, 4, true, false, 14);
  const Tensor positions = at::full({2, 5}, -1, at::kLong);
  for (auto* op : {&wkv4, &wkv4_reference}) {
    const auto out = (*op)(problem.w, problem.u, problem.k, problem.v, problem.state, positions);
    EXPECT_EQ(out.y.abs().max().item<double>(), 0);
    EXPECT_TRUE(same_bits(out.last_state, *problem.state));
    const auto fresh = (*op)(problem.w, problem.u, problem.k, problem.v, std::nullopt, positions);
    EXPECT_EQ(fresh.last_state.select(1, 2).max().item<double>(), kWkv4FreshMaximum);
  }
}

TEST_F(Wkv4, EmptySequence) {
  const Problem problem(2, 0, 5, true, false, 15);
  for (auto* op : {&wkv4, &wkv4_reference}) {
    const auto out = run(*op, problem, at::kDouble);
    EXPECT_EQ(out[0].numel(), 0);
    EXPECT_TRUE(same_bits(out[1], *problem.state));
    EXPECT_LE(relative_rms(out[6], problem.grad_state), 1e-15);
  }
}

TEST_F(Wkv4, StridedInputs) {
  const Problem problem(2, 33, 21, true, false, 16);
  const auto expected = wkv4(problem.w, problem.u, problem.k, problem.v, problem.state);
  const Tensor wide = at::cat({problem.k, problem.v}, 2);
  const auto spread = [](const Tensor& x) {
    Tensor result = at::zeros({x.size(0), 2}, x.options());
    result.select(1, 0).copy_(x);
    return result.select(1, 0);
  };
  const auto strided = wkv4(spread(problem.w), spread(problem.u), wide.slice(2, 0, 21),
                            problem.v.transpose(0, 1).contiguous().transpose(0, 1),
                            problem.state->transpose(1, 2).contiguous().transpose(1, 2));
  EXPECT_TRUE(same_bits(strided.y, expected.y));
  EXPECT_TRUE(same_bits(strided.last_state, expected.last_state));
}

TEST_F(Wkv4, SameBitsWhateverTheThreads) {
  const Problem problem(3, 257, 100, true, true, 17);
  const int threads = at::get_num_threads();
  std::vector<std::vector<Tensor>> runs;
  for (int count : {1, 2, 2}) {
    at::set_num_threads(count);
    runs.push_back(run(wkv4, problem, at::kFloat));
  }
  at::set_num_threads(threads);
  for (size_t r = 1; r < runs.size(); ++r) {
    for (size_t i = 0; i < runs[0].size(); ++i) EXPECT_TRUE(same_bits(runs[r][i], runs[0][i])) << kNames[i];
  }
}

TEST_F(Wkv4, Bfloat16KeepsAFloatState) {
  const Problem problem(2, 100, 24, false, false, 18);
  const auto round = [](const Tensor& x) { return x.to(at::kBFloat16); };
  const Tensor w = problem.w.to(at::kFloat), u = problem.u.to(at::kFloat);
  const auto out = wkv4(w, u, round(problem.k), round(problem.v));
  const auto exact = wkv4(w, u, round(problem.k).to(at::kFloat), round(problem.v).to(at::kFloat));
  EXPECT_EQ(out.y.scalar_type(), at::kBFloat16);
  EXPECT_EQ(out.last_state.scalar_type(), at::kFloat);
  EXPECT_TRUE(same_bits(out.y, round(exact.y)));
  EXPECT_TRUE(same_bits(out.last_state, exact.last_state));
  const Tensor k = round(problem.k).requires_grad_(true);
  const auto gradient = torch::autograd::grad({wkv4(w, u, k, round(problem.v)).y}, {k}, {round(problem.grad_y)})[0];
  EXPECT_EQ(gradient.scalar_type(), at::kBFloat16);
}

TEST_F(Wkv4, LargeKeysStayFinite) {
  Problem problem(1, 200, 20, true, false, 19);
  problem.k.mul_(40).clamp_(-80, 80);
  problem.k.slice(1, 50, 60).fill_(80);
  problem.k.slice(1, 100, 150).fill_(-80);
  const auto exact = run(wkv4_reference, problem, at::kDouble);
  const auto fused = run(wkv4, problem, at::kFloat), plain = run(wkv4_reference, problem, at::kFloat);
  for (size_t i = 0; i < fused.size(); ++i) {
    EXPECT_TRUE(fused[i].isfinite().all().item<bool>()) << kNames[i];
    // Rounding u + k at 80 alone is a relative error of 4e-6 after the exponential.
    EXPECT_LE(relative_rms(fused[i], exact[i]), std::max(1e-5, 3 * relative_rms(plain[i], exact[i]))) << kNames[i];
  }
}

// Errors of two chunks' sums must not grow with the length of the sequence.
TEST_F(Wkv4, LongSequencesKeepTheirPrecision) {
  const Problem problem(1, 20000, 16, false, false, 20);
  const auto exact = run(wkv4_reference, problem, at::kDouble);
  const auto fused = run(wkv4, problem, at::kFloat);
  for (size_t i = 0; i < fused.size(); ++i) EXPECT_LE(relative_rms(fused[i], exact[i]), 1e-6) << kNames[i];
}

// A diverged model must show: nothing may turn NaN into a number, and it stays in its row and channel.
TEST_F(Wkv4, NotANumberSpreadsOnlyForward) {
  for (at::ScalarType type : {at::kFloat, at::kDouble}) {
    const Problem problem(1, 20, 18, false, false, 23);
    Tensor k = problem.k.to(type, false, true);
    const auto clean = wkv4(problem.w.to(type), problem.u.to(type), k, problem.v.to(type)).y;
    k[0][7][3].fill_(NAN);
    const auto y = wkv4(problem.w.to(type), problem.u.to(type), k, problem.v.to(type)).y;
    EXPECT_TRUE(y.slice(1, 7).select(2, 3).isnan().all().item<bool>());
    EXPECT_EQ(y.isnan().sum().item<int64_t>(), 13);
    EXPECT_TRUE(same_bits(y.slice(1, 0, 7), clean.slice(1, 0, 7)));
  }
}

// Other machines' code paths, as far as this machine can run them.
TEST_F(Wkv4, EveryInstructionSet) {
  const Problem problem(2, 70, 37, true, true, 24);
  const auto exact = run(wkv4_reference, problem, at::kDouble);
  for (int64_t target : {int64_t{HWY_AVX3}, int64_t{HWY_AVX2}, int64_t{0}}) {  // 0: portable code
    if ((hwy::SupportedTargets() & target) != target) continue;
    hwy::GetChosenTarget().Update(target);
    const auto fused = run(wkv4, problem, at::kFloat), fused64 = run(wkv4, problem, at::kDouble);
    for (size_t i = 0; i < exact.size(); ++i) {
      EXPECT_LE(relative_rms(fused[i], exact[i]), 1e-6) << kNames[i] << " target " << target;
      EXPECT_LE(relative_rms(fused64[i], exact[i]), 1e-13) << kNames[i] << " target " << target;
    }
  }
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

TEST_F(Wkv4, GradientsOfGradientsAreRefused) {
  const Problem problem(1, 4, 3, false, false, 21);
  for (auto* op : {&wkv4, &wkv4_reference}) {
    const Tensor k = problem.k.clone().requires_grad_(true);
    const auto out = (*op)(problem.w, problem.u, k, problem.v, std::nullopt, std::nullopt);
    const Tensor gradient = torch::autograd::grad({out.y.square().sum()}, {k}, {}, true, true)[0];
    EXPECT_THROW(torch::autograd::grad({gradient.sum()}, {k}), c10::Error);
  }
}

TEST_F(Wkv4, MetaTensorsGiveShapes) {
  const auto meta = at::TensorOptions().device(at::kMeta);
  const auto shape = [&](at::IntArrayRef sizes, at::ScalarType type) { return at::empty(sizes, meta.dtype(type)); };
  const auto out = wkv4(shape({6}, at::kFloat), shape({6}, at::kFloat), shape({2, 70, 6}, at::kBFloat16),
                        shape({2, 70, 6}, at::kBFloat16), shape({2, 3, 6}, at::kFloat), shape({2, 70}, at::kLong));
  EXPECT_EQ(out.y.sizes(), at::IntArrayRef({2, 70, 6}));
  EXPECT_EQ(out.y.scalar_type(), at::kBFloat16);
  EXPECT_EQ(out.last_state.sizes(), at::IntArrayRef({2, 3, 6}));
  EXPECT_EQ(out.last_state.scalar_type(), at::kFloat);
  const Tensor k = shape({2, 70, 6}, at::kFloat).requires_grad_(true);
  const auto differentiable = wkv4(shape({6}, at::kFloat), shape({6}, at::kFloat), k, shape({2, 70, 6}, at::kFloat));
  EXPECT_EQ(torch::autograd::grad({differentiable.y.sum()}, {k})[0].sizes(), k.sizes());
}

TEST_F(Wkv4, WrongArgumentsAreNamed) {
  const Problem problem(2, 4, 3, true, false, 22);
  const auto message = [](const std::function<void()>& call) -> std::string {
    try {
      call();
    } catch (const c10::Error& error) {
      return error.what_without_backtrace();
    }
    return "";
  };
  const Tensor& w = problem.w;
  EXPECT_NE(message([&] { wkv4(w, problem.u, problem.k[0], problem.v); }).find("k must be [B, T, C]"),
            std::string::npos);
  EXPECT_NE(message([&] { wkv4(problem.k, problem.u, problem.k, problem.v); }).find("w must be [C]"),
            std::string::npos);
  EXPECT_NE(message([&] { wkv4(w, w, problem.k, problem.v, problem.k); }).find("state must be [B, 3, C]"),
            std::string::npos);
  EXPECT_NE(message([&] { wkv4(w, w, problem.k, problem.v, {}, problem.k); }).find("positions must be int64 [B, T]"),
            std::string::npos);
}

// Counts what the oracle computes; layers declare their costs against such counts.
struct Counted {
  double value = 0;
  Counted() = default;
  Counted(double x) : value(x) {}
  static inline int64_t arithmetic = 0, exponentials = 0;
  friend Counted operator+(Counted a, Counted b) { return ++arithmetic, Counted(a.value + b.value); }
  friend Counted operator-(Counted a, Counted b) { return ++arithmetic, Counted(a.value - b.value); }
  friend Counted operator*(Counted a, Counted b) { return ++arithmetic, Counted(a.value * b.value); }
  friend Counted operator/(Counted a, Counted b) { return ++arithmetic, Counted(a.value / b.value); }
  friend bool operator<(Counted a, Counted b) { return a.value < b.value; }
  friend Counted exp(Counted a) { return ++exponentials, Counted(std::exp(a.value)); }
};

TEST_F(Wkv4, ReferenceCountsWithACountingScalar) {
  const int64_t batch = 2, time = 5, channels = 3, numbers = batch * time * channels;
  std::vector<Counted> w(channels, -0.5), k(numbers, 0.3), y(numbers), state(batch * 3 * channels);
  const Wkv4Forward<Counted> p{batch,    time,    channels, w.data(), w.data(),     k.data(),
                               k.data(), nullptr, nullptr,  y.data(), state.data(), nullptr};
  Counted::arithmetic = Counted::exponentials = 0;
  wkv4_forward_reference(p);
  EXPECT_EQ(Counted::arithmetic, 17 * numbers);
  EXPECT_EQ(Counted::exponentials, 4 * numbers);
}

}  // namespace
}  // namespace wkv4_test
}  // namespace hippodrome
