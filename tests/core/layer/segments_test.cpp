#include "core/layer/segments.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>

#include "tests/core/layer/toys.h"

namespace hippodrome::segments_test {
namespace {

constexpr int64_t kWidth = 6;

std::unique_ptr<Layer> made(const std::string& name) {
  const Registry registry = toys::toy_registry();
  auto layer = (*registry.layer(name))->make(ConfigValue(), name, Site{"site", kWidth, kWidth, 0, 1, 1});
  EXPECT_TRUE(layer.ok());
  (*layer)->parameters().materialise(1, at::kDouble);
  return std::move(*layer);
}

Tensor random(std::vector<int64_t> sizes) {
  Tensor value = at::empty(sizes, at::kDouble);
  initialise::normal(1.0)(value, RandomStream(1, "x"));
  return value;
}

Context ragged(const std::vector<std::vector<int64_t>>& rows) {
  std::vector<int64_t> flat;
  for (const auto& row : rows) flat.insert(flat.end(), row.begin(), row.end());
  Context context;
  context.positions = at::tensor(flat, at::kLong).view({static_cast<int64_t>(rows.size()), static_cast<int64_t>(rows[0].size())});
  context.ragged = true;
  return context;
}

State state_of(Layer& layer, int64_t rows) { return layer.initial_state({rows, 0, at::TensorOptions().dtype(at::kDouble)}); }

double largest(const Tensor& a, const Tensor& b) {
  EXPECT_EQ(a.sizes(), b.sizes());
  return a.sub(b).abs().max().item().toDouble();
}

// Padding on each side and inside, several sequences in a row, a row of nothing but padding, rows that continue.
const std::vector<std::vector<int64_t>> kRows = {{0, 1, 2, 3, 4, 5, 6, 7}, {-1, -1, 0, 1, 2, -1, 3, 4}, {0, 1, 2, 0, 0, 1, 2, 3},
                                                 {-1, -1, -1, -1, -1, -1, -1, -1}, {5, 6, 7, 0, 1, -1, -1, 0}, {3, 4, -1, 0, 1, 0, 1, 2}};

// "plain" is run in segments by core, "gated" by itself: the same layer otherwise.
TEST(Segments, GiveWhatALayerThatPacksGives) {
  const at::NoGradGuard no_grad;
  const auto packs = made("gated"), plain = made("plain");
  const Tensor x = random({6, 8, kWidth}), before = random({6, 3, kWidth});
  State one = state_of(*packs, 6), other = state_of(*plain, 6);
  run_layer(*packs, before, Context::plain(6, 3, 0, at::kCPU), &one);
  run_layer(*plain, before, Context::plain(6, 3, 0, at::kCPU), &other);
  const Tensor expected = run_layer(*packs, x, ragged(kRows), &one), actual = run_layer(*plain, x, ragged(kRows), &other);
  EXPECT_LT(largest(actual, expected), 1e-12);
  EXPECT_LT(largest(other.get("h"), one.get("h")), 1e-12) << "the states they leave";
  EXPECT_EQ(actual[3].abs().max().item().toDouble(), 0.0) << "padding gives zeros";
}

TEST(Segments, EqualEachSequenceAlone) {
  const at::NoGradGuard no_grad;
  const auto plain = made("plain");
  const Tensor x = random({6, 8, kWidth});
  const Tensor y = run_layer(*plain, x, ragged(kRows), nullptr);
  const auto alone = [&](int64_t row, std::vector<int64_t> columns) {
    const Tensor index = at::tensor(columns, at::kLong);
    const Tensor part = x[row].index_select(0, index).unsqueeze(0);
    const Tensor out = run_layer(*plain, part, Context::plain(1, part.size(1), 0, at::kCPU), nullptr);
    EXPECT_LT(largest(y[row].index_select(0, index).unsqueeze(0), out), 1e-12) << "row " << row;
  };
  alone(0, {0, 1, 2, 3, 4, 5, 6, 7});
  alone(1, {2, 3, 4, 6, 7});  // padding inside a sequence does not end it, without a state either
  alone(2, {0, 1, 2});
  alone(2, {3});
  alone(2, {4, 5, 6, 7});
  alone(4, {3, 4});
  alone(4, {7});
}

TEST(Segments, CarryGradients) {
  const auto packs = made("gated"), plain = made("plain");
  const auto gradients = [](Layer& layer) {
    layer.parameters().set_requires_grad(true);
    const Tensor x = random({6, 8, kWidth}).requires_grad_(true);
    State state = state_of(layer, 6);
    run_layer(layer, x, ragged(kRows), &state).square().sum().add(state.get("h").sum()).backward();
    std::vector<Tensor> all = {x.grad()};
    for (const ParameterPtr& parameter : layer.parameters().list()) all.push_back(parameter->value.grad());
    return all;
  };
  const auto expected = gradients(*packs), actual = gradients(*plain);
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_LT(largest(actual[i], expected[i]), 1e-11) << i;
  EXPECT_EQ(actual[0][3].abs().max().item().toDouble(), 0.0) << "padding has no gradient";
}

TEST(Segments, LeaveRowsThatSeeNothingAsTheyAre) {
  const at::NoGradGuard no_grad;
  const auto plain = made("plain");
  State state = state_of(*plain, 2);
  run_layer(*plain, random({2, 3, kWidth}), Context::plain(2, 3, 0, at::kCPU), &state);
  const Tensor before = state.get("h").clone();
  run_layer(*plain, random({2, 3, kWidth}), ragged({{-1, -1, -1}, {3, -1, -1}}), &state);
  EXPECT_TRUE(at::equal(state.get("h")[0], before[0]));
  EXPECT_FALSE(at::equal(state.get("h")[1], before[1]));
}

TEST(Segments, PlainCallsGoStraightThrough) {
  const at::NoGradGuard no_grad;
  const auto plain = made("plain");
  const Tensor x = random({2, 3, kWidth});
  Context context = Context::plain(2, 3, 0, at::kCPU);
  EXPECT_TRUE(at::equal(run_layer(*plain, x, context, nullptr), plain->forward(x, context, nullptr)));
}

TEST(Segments, LayersSeeTheRestOfTheContext) {
  struct Watcher final : Observer {
    void report(std::string_view, std::string_view, const Tensor&) override { ++reports; }
    int reports = 0;
  };
  struct Reporter final : Layer {
    Tensor forward(const Tensor& x, const Context& context, State*) override {
      EXPECT_TRUE(context.training);
      EXPECT_FALSE(context.ragged);
      starts.push_back(context.positions[0][0].item().toLong());
      context.observer->report("site", "x", x);
      return x;
    }
    Traits traits() const override { return {}; }
    Cost cost(const Workload&) const override { return {}; }
    std::vector<int64_t> starts;
  };
  Watcher watcher;
  Reporter reporter;
  Context context = ragged({{0, 1, -1, 2}, {4, 5, 6, 0}});
  context.training = true;
  context.observer = &watcher;
  const Tensor x = random({2, 4, 3});
  const Tensor y = run_layer(reporter, x, context, nullptr);
  EXPECT_EQ(watcher.reports, 4);
  EXPECT_THAT(reporter.starts, testing::UnorderedElementsAre(0, 2, 4, 0));
  EXPECT_TRUE(at::equal(y[1], x[1]));
}

TEST(Contexts, PlainPositionsCountFromTheStart) {
  const Context context = Context::plain(2, 3, 5, at::kCPU);
  EXPECT_FALSE(context.ragged);
  EXPECT_FALSE(context.op_positions().has_value());
  EXPECT_TRUE(at::equal(context.positions, at::tensor(std::vector<int64_t>{5, 6, 7, 5, 6, 7}, at::kLong).view({2, 3})));
  EXPECT_TRUE(ragged({{0}}).op_positions().has_value());
}

}  // namespace
}  // namespace hippodrome::segments_test
