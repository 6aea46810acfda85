#include "core/layer/parameters.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>

#include <cmath>

namespace hippodrome::parameters_test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> names_of(const Parameters& parameters) {
  std::vector<std::string> names;
  for (const ParameterPtr& parameter : parameters.list()) names.push_back(parameter->name);
  return names;
}

Tensor drawn(const Initialiser& initialiser, std::vector<int64_t> sizes, uint64_t seed = 1, at::ScalarType dtype = at::kDouble) {
  Tensor value = at::zeros(sizes, dtype);
  initialiser(value, RandomStream(seed, "value"));
  return value;
}

TEST(Parameters, AreOnTheMetaDeviceUntilMaterialised) {
  Parameters parameters;
  const ParameterPtr huge = parameters.add("huge", {int64_t{1} << 20, int64_t{1} << 20}, initialise::constant(0.0));
  EXPECT_TRUE(huge->value.is_meta());
  EXPECT_EQ(parameters.count(), int64_t{1} << 40);
}

TEST(Parameters, RefuseANameTwice) {
  Parameters parameters, child;
  parameters.add("weight", {2}, initialise::constant(0.0));
  EXPECT_THROW(parameters.add("weight", {3}, initialise::constant(0.0)), c10::Error);
  parameters.add("child.weight", {2}, initialise::constant(0.0));
  child.add("weight", {2}, initialise::constant(0.0));
  try {
    parameters.adopt("child", child);
    FAIL();
  } catch (const c10::Error& error) {
    EXPECT_THAT(error.what_without_backtrace(), HasSubstr("parameter \"child.weight\" is declared twice"));
  }
}

TEST(Parameters, TakeTiedOnesOnceUnderTheirFirstName) {
  Parameters model, embedding, head;
  const ParameterPtr weight = embedding.add("weight", {4, 2}, initialise::normal(1.0));
  model.adopt("embedding", embedding);
  Parameters shared;
  shared.add("bias", {4}, initialise::constant(0.0));
  head.adopt("inner", shared);
  model.adopt("head", head);
  model.adopt("again", embedding);
  EXPECT_THAT(names_of(model), ElementsAre("embedding.weight", "head.inner.bias"));
  EXPECT_EQ(model.count(), 12);
  EXPECT_EQ(model.find("embedding.weight"), weight);
  EXPECT_EQ(model.find("weight"), nullptr);
}

TEST(Parameters, AreDrawnByNameWhateverTheirOrder) {
  Parameters one, other;
  one.add("a", {50}, initialise::normal(1.0));
  one.add("b", {50}, initialise::normal(1.0));
  other.add("new", {7}, initialise::normal(1.0));
  other.add("b", {50}, initialise::normal(1.0));
  other.add("a", {50}, initialise::normal(1.0));
  one.materialise(3, at::kFloat);
  other.materialise(3, at::kFloat);
  EXPECT_TRUE(at::equal(one.find("a")->value, other.find("a")->value));
  EXPECT_TRUE(at::equal(one.find("b")->value, other.find("b")->value));
  EXPECT_FALSE(at::equal(one.find("a")->value, one.find("b")->value));
  const Tensor first = one.find("a")->value.clone();
  one.materialise(4, at::kFloat);
  EXPECT_FALSE(at::equal(one.find("a")->value, first)) << "another seed";
  one.materialise(3, at::kDouble);
  EXPECT_EQ(one.find("a")->value.scalar_type(), at::kDouble);
  EXPECT_TRUE(at::equal(one.find("a")->value.to(at::kFloat), first));
}

TEST(Parameters, CastToTheComputeDtypeUnlessTheyMustStayWide) {
  Parameters parameters;
  const ParameterPtr plain = parameters.add("plain", {2}, initialise::constant(1.0));
  const ParameterPtr sensitive = parameters.add("sensitive", {2}, initialise::constant(1.0), {.keep_float32 = true});
  parameters.materialise(1, at::kFloat);
  const Tensor narrow = at::zeros({1}, at::kBFloat16), wide = at::zeros({1}, at::kDouble), same = at::zeros({1});
  EXPECT_EQ(plain->cast(narrow).scalar_type(), at::kBFloat16);
  EXPECT_EQ(sensitive->cast(narrow).scalar_type(), at::kFloat);
  EXPECT_EQ(sensitive->cast(wide).scalar_type(), at::kDouble);
  EXPECT_TRUE(plain->cast(same).is_same(plain->value)) << "no copy where none is needed";
}

TEST(Parameters, CastsLetGradientsThrough) {
  Parameters parameters;
  const ParameterPtr weight = parameters.add("weight", {3}, initialise::constant(1.0));
  parameters.materialise(1, at::kFloat);
  parameters.set_requires_grad(true);
  weight->cast(at::zeros({1}, at::kBFloat16)).mul(2.0).sum().backward();
  EXPECT_EQ(weight->value.grad().scalar_type(), at::kFloat);
  EXPECT_EQ(weight->value.grad().sum().item().toDouble(), 6.0);
}

TEST(Initialisers, HaveTheMomentsTheySay) {
  const Tensor normal = drawn(initialise::normal(0.02), {200, 200});
  EXPECT_NEAR(normal.mean().item().toDouble(), 0.0, 5e-4);
  EXPECT_NEAR(normal.std().item().toDouble(), 0.02, 2e-4);
  const Tensor uniform = drawn(initialise::uniform(-1.0, 3.0), {200, 200});
  EXPECT_NEAR(uniform.mean().item().toDouble(), 1.0, 0.03);
  EXPECT_NEAR(uniform.std().item().toDouble(), 4.0 / std::sqrt(12.0), 0.02);
  EXPECT_GE(uniform.min().item().toDouble(), -1.0);
  EXPECT_LT(uniform.max().item().toDouble(), 3.0);
  const Tensor fan_in = drawn(initialise::uniform_fan_in(16), {100, 16});
  EXPECT_LE(fan_in.abs().max().item().toDouble(), 0.25);
  EXPECT_GT(fan_in.abs().max().item().toDouble(), 0.24);
}

TEST(Initialisers, FillAsToldWhateverTheDtype) {
  EXPECT_EQ(drawn(initialise::constant(2.5), {4}).sum().item().toDouble(), 10.0);
  const Tensor counted = drawn(initialise::from_index([](int64_t i) { return static_cast<double>(i * i); }), {2, 2});
  EXPECT_EQ(counted[1][1].item().toDouble(), 9.0);
  const Tensor halved = drawn(initialise::scaled(initialise::constant(3.0), 0.5), {2});
  EXPECT_EQ(halved.sum().item().toDouble(), 3.0);
  EXPECT_TRUE(at::equal(drawn(initialise::normal(1.0), {9}).to(at::kFloat), drawn(initialise::normal(1.0), {9}, 1, at::kFloat)));
}

TEST(Initialisers, OrthogonalHasOrthonormalRowsOrColumns) {
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{6, 4}, {4, 6}, {5, 5}}) {
    const Tensor q = drawn(initialise::orthogonal(2.0), {rows, columns});
    const Tensor product = rows < columns ? q.mm(q.t()) : q.t().mm(q);
    const Tensor expected = at::eye(std::min(rows, columns), at::kDouble).mul(4.0);
    EXPECT_LT(product.sub(expected).abs().max().item().toDouble(), 1e-12) << rows << " × " << columns;
  }
  EXPECT_FALSE(at::equal(drawn(initialise::orthogonal(1.0), {4, 4}, 1), drawn(initialise::orthogonal(1.0), {4, 4}, 2)));
  EXPECT_LT(drawn(initialise::orthogonal(1.0), {4, 4}, 1, at::kFloat).sub(drawn(initialise::orthogonal(1.0), {4, 4})).abs().max().item().toDouble(), 1e-6);
}

}  // namespace
}  // namespace hippodrome::parameters_test
