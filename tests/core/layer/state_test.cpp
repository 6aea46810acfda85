#include "core/layer/state.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>

namespace hippodrome::state_test {
namespace {

using testing::HasSubstr;

Tensor rows_of(std::vector<int64_t> rows) { return at::tensor(rows, at::kLong); }

// h [3, 2] constant, cache [3, T, 2] growing, source [3] shared.
State example() {
  State state;
  state.declare("h", StateKind::kPerRow, at::zeros({3, 2}));
  state.declare("cache", StateKind::kPerToken, at::zeros({3, 4, 2}), 1);
  state.declare("source", StateKind::kPerSource, at::arange(3).to(at::kFloat));
  return state;
}

Tensor tokens(int64_t count, double value) { return at::full({3, count, 2}, value); }

std::string error_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
  return "";
}

TEST(State, IsEmptyUntilSomethingIsDeclared) {
  State state;
  EXPECT_TRUE(state.empty());
  EXPECT_EQ(state.bytes(), 0);
  state.declare("h", StateKind::kPerRow, at::zeros({3, 2}));
  EXPECT_FALSE(state.empty());
  EXPECT_TRUE(state.has("h"));
  EXPECT_FALSE(state.has("c"));
  EXPECT_THAT(error_of([&] { state.get("c"); }), HasSubstr("no entry \"c\""));
  EXPECT_THAT(error_of([&] { state.declare("h", StateKind::kPerRow, at::zeros({1})); }), HasSubstr("declared twice"));
}

TEST(State, InInferenceIsWrittenInPlace) {
  const at::NoGradGuard no_grad;
  State state = example();
  const void* address = state.get("h").const_data_ptr();
  const Tensor value = at::ones({3, 2});
  state.put("h", value);
  EXPECT_EQ(state.get("h").const_data_ptr(), address);
  value.fill_(7.0);
  EXPECT_EQ(state.get("h").sum().item().toDouble(), 6.0) << "the state must not alias what was put";
}

TEST(State, InGradModeIsReplacedSoThatGradientsFlow) {
  State state = example();
  const Tensor before = state.get("h");
  const Tensor value = at::ones({3, 2}).requires_grad_(true);
  state.put("h", value.mul(2.0));
  EXPECT_EQ(before.sum().item().toDouble(), 0.0) << "the incoming tensor must not be written";
  state.get("h").sum().backward();
  EXPECT_EQ(value.grad().sum().item().toDouble(), 12.0);
}

TEST(State, KeepsItsShapeAndDtype) {
  State state = example();
  EXPECT_THAT(error_of([&] {
                state.put("h", at::ones({3, 3}));
              }),
              HasSubstr("state entry \"h\" has shape [3, 2], not [3, 3]"));
  EXPECT_THAT(error_of([&] { state.put("h", at::ones({1, 2})); }), HasSubstr("not [1, 2]"));
  state.put("h", at::ones({3, 2}, at::kBFloat16));
  EXPECT_EQ(state.get("h").scalar_type(), at::kFloat) << "in grad mode";
  const at::NoGradGuard no_grad;
  state.put("h", at::ones({3, 2}, at::kBFloat16));
  EXPECT_EQ(state.get("h").scalar_type(), at::kFloat) << "in inference";
}

TEST(State, AppendsTokensWithinItsCapacityWithoutMoving) {
  const at::NoGradGuard no_grad;
  State state = example();
  EXPECT_EQ(state.tokens("cache"), 0);
  EXPECT_EQ(state.get("cache").size(1), 0);
  const Tensor first = state.append("cache", tokens(3, 1.0));
  EXPECT_EQ(first.size(1), 3);
  const void* address = first.const_data_ptr();
  const Tensor all = state.append("cache", tokens(1, 2.0));
  EXPECT_EQ(all.const_data_ptr(), address);
  EXPECT_EQ(state.tokens("cache"), 4);
  EXPECT_TRUE(at::equal(all.select(1, 2), at::full({3, 2}, 1.0)));
  EXPECT_TRUE(at::equal(all.select(1, 3), at::full({3, 2}, 2.0)));
}

TEST(State, GrowsByDoublingBeyondItsCapacity) {
  const at::NoGradGuard no_grad;
  State state = example();
  const int64_t token = 3 * 2 * 4, fixed = 3 * 2 * 4 + 3 * 4;
  std::vector<int64_t> reserved;
  for (int64_t t = 0; t < 9; ++t) {
    state.append("cache", tokens(1, static_cast<double>(t)));
    EXPECT_EQ(state.bytes(), fixed + (t + 1) * token) << "bytes count valid content";
    reserved.push_back((state.reserved() - fixed) / token);
  }
  EXPECT_EQ(reserved, (std::vector<int64_t>{4, 4, 4, 4, 8, 8, 8, 8, 16}));
  const Tensor all = state.get("cache");
  for (int64_t t = 0; t < 9; ++t)
    EXPECT_TRUE(at::equal(all.select(1, t), at::full({3, 2}, static_cast<double>(t)))) << t;
  // Far beyond at once, and from no capacity at all.
  state.append("cache", tokens(40, 9.0));
  EXPECT_EQ(state.tokens("cache"), 49);
  State bare;
  bare.declare("cache", StateKind::kPerToken, at::zeros({3, 0, 2}), 1);
  EXPECT_EQ(bare.append("cache", tokens(2, 5.0)).sum().item().toDouble(), 60.0);
}

TEST(State, AppendsInGradModeKeepGradientsAndEarlierTensors) {
  State state = example();
  const Tensor first = at::ones({3, 2, 2}).requires_grad_(true), second = at::ones({3, 1, 2}).requires_grad_(true);
  const Tensor shown = state.append("cache", first);
  state.append("cache", second);
  EXPECT_EQ(shown.size(1), 2);
  state.get("cache").mul(3.0).sum().backward();
  EXPECT_EQ(first.grad().sum().item().toDouble(), 36.0);
  EXPECT_EQ(second.grad().sum().item().toDouble(), 18.0);
}

TEST(State, KindsHaveTheirOwnWayOfWriting) {
  State state = example();
  EXPECT_THAT(error_of([&] { state.put("cache", tokens(4, 0.0)); }), HasSubstr("appended"));
  EXPECT_THAT(error_of([&] { state.append("h", at::zeros({3, 2})); }), HasSubstr("only per-token"));
}

TEST(State, ClonesAreIndependent) {
  const at::NoGradGuard no_grad;
  State state = example();
  state.append("cache", tokens(2, 1.0));
  State copy = state.clone();
  state.put("h", at::ones({3, 2}));
  state.append("cache", tokens(1, 2.0));
  state.get("cache").fill_(9.0);
  EXPECT_EQ(copy.get("h").sum().item().toDouble(), 0.0);
  EXPECT_EQ(copy.tokens("cache"), 2);
  EXPECT_TRUE(at::equal(copy.get("cache"), tokens(2, 1.0)));
}

TEST(State, DetachedStatesCarryNoHistory) {
  State state = example();
  const Tensor value = at::ones({3, 2}).requires_grad_(true);
  state.put("h", value.mul(2.0));
  EXPECT_TRUE(state.get("h").requires_grad());
  EXPECT_TRUE(state.clone().get("h").requires_grad());
  const State cut = state.detach();
  EXPECT_FALSE(cut.get("h").requires_grad());
  EXPECT_EQ(cut.get("h").sum().item().toDouble(), 12.0);
}

TEST(State, SelectsRowsInAnyOrderAndNumber) {
  const at::NoGradGuard no_grad;
  State state = example();
  state.put("h", at::arange(6).to(at::kFloat).view({3, 2}));
  state.append("cache", at::arange(6).to(at::kFloat).view({3, 1, 2}));
  const State chosen = state.select(rows_of({2, 0, 2, 1}));
  EXPECT_TRUE(at::equal(chosen.get("h").select(1, 0), at::tensor(std::vector<float>{4, 0, 4, 2})));
  EXPECT_TRUE(at::equal(chosen.expanded("source"), at::tensor(std::vector<float>{2, 0, 2, 1})));
  EXPECT_EQ(chosen.tokens("cache"), 1);
  EXPECT_TRUE(at::equal(chosen.get("cache").select(2, 1).flatten(), at::tensor(std::vector<float>{5, 1, 5, 3})));
  chosen.get("h").fill_(0.0);
  EXPECT_EQ(state.get("h").sum().item().toDouble(), 15.0) << "a selection is a copy";
}

TEST(State, AssignsRowsInPlaceOrAnew) {
  State state, source;
  state.declare("h", StateKind::kPerRow, at::zeros({3, 2}));
  source.declare("h", StateKind::kPerRow, at::ones({2, 2}));
  const Tensor before = state.get("h");
  state.assign_rows(rows_of({2, 0}), source);
  EXPECT_EQ(before.sum().item().toDouble(), 0.0) << "in grad mode the incoming tensor is not written";
  EXPECT_TRUE(at::equal(state.get("h").select(1, 0), at::tensor(std::vector<float>{1, 0, 1})));
  const at::NoGradGuard no_grad;
  const void* address = state.get("h").const_data_ptr();
  state.assign_rows(rows_of({1, 2}), source);
  EXPECT_EQ(state.get("h").const_data_ptr(), address);
  EXPECT_EQ(state.get("h").sum().item().toDouble(), 6.0);
  State growing = example();
  EXPECT_THAT(error_of([&] { growing.assign_rows(rows_of({0, 1, 2}), example()); }), HasSubstr("per-token"));
}

TEST(State, RestoresWhatItsTensorsSay) {
  const at::NoGradGuard no_grad;
  State state = example();
  state.put("h", at::ones({3, 2}));
  state.append("cache", tokens(3, 4.0));
  const std::map<std::string, Tensor> saved = state.tensors();
  EXPECT_EQ(saved.at("cache").size(1), 3) << "valid content alone is saved";
  State restored = example();
  restored.restore(saved);
  EXPECT_EQ(restored.tokens("cache"), 3);
  restored.append("cache", tokens(1, 5.0));
  restored.put("h", at::zeros({3, 2}));
  EXPECT_EQ(saved.at("h").sum().item().toDouble(), 6.0) << "a restored state must not alias what it came from";
  EXPECT_EQ(restored.get("cache").sum().item().toDouble(), 3 * 2 * (3 * 4.0 + 5.0));
}

TEST(State, RefusesToRestoreWhatIsNotItsOwn) {
  const std::map<std::string, Tensor> saved = example().tensors();
  State state = example();
  auto fewer = saved;
  fewer.erase("h");
  EXPECT_THAT(error_of([&] { state.restore(fewer); }), HasSubstr("3 entries"));
  auto renamed = fewer;
  renamed.emplace("g", saved.at("h"));
  EXPECT_THAT(error_of([&] { state.restore(renamed); }), HasSubstr("lacks the entry \"h\""));
  auto misshapen = saved;
  misshapen["h"] = at::zeros({4, 2});
  EXPECT_THAT(error_of([&] { state.restore(misshapen); }), HasSubstr("\"h\""));
  misshapen = saved;
  misshapen["cache"] = at::zeros({3, 2, 5});
  EXPECT_THAT(error_of([&] { state.restore(misshapen); }), HasSubstr("\"cache\""));
}

TEST(State, RowsShareWhatBelongsToTheirSource) {
  State state;
  const Tensor memory = at::arange(6).to(at::kFloat).view({3, 2});
  state.declare("source", StateKind::kPerSource, memory);
  EXPECT_EQ(state.rows_per_source("source"), 1);
  const State beams = state.select(rows_of({0, 0, 1, 1, 2, 2}));
  EXPECT_EQ(beams.rows_per_source("source"), 2);
  EXPECT_EQ(beams.get("source").const_data_ptr(), memory.const_data_ptr()) << "the memory is not copied";
  EXPECT_EQ(beams.bytes(), state.bytes());
  EXPECT_EQ(beams.select(rows_of({1, 1, 3, 2, 4, 4})).rows_per_source("source"), 2)
      << "beams change places within a source";
  const State left = beams.select(rows_of({3, 2, 4, 5}));
  EXPECT_EQ(left.rows_per_source("source"), 2);
  EXPECT_TRUE(at::equal(left.get("source"), memory.narrow(0, 1, 2))) << "a source without rows is dropped";
  const State mixed = beams.select(rows_of({5, 0, 4}));
  EXPECT_EQ(mixed.rows_per_source("source"), 0);
  EXPECT_TRUE(at::equal(mixed.expanded("source"), memory.index_select(0, rows_of({2, 0, 2}))));
  EXPECT_THAT(error_of([&] { beams.select(rows_of({6})); }), HasSubstr("a state of 6 rows has no row 6"));
}

}  // namespace
}  // namespace hippodrome::state_test
