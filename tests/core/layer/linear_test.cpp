#include "core/layer/linear.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>

#include "core/tensor/matmul.h"

namespace hippodrome::linear_test {
namespace {


class OnLibrary {
 public:
  explicit OnLibrary(MatrixLibrary library) { set_matrix_library(library); }
  ~OnLibrary() { set_matrix_library(before_); }

 private:
  const MatrixLibrary before_ = matrix_library();
};

Tensor random(std::vector<int64_t> sizes, const std::string& name) {
  Tensor value = at::empty(sizes, at::kDouble);
  initialise::normal(1.0)(value, RandomStream(1, name));
  return value;
}

double rms(const Tensor& a, const Tensor& b) {
  EXPECT_EQ(a.sizes(), b.sizes());
  return a.detach().to(at::kDouble).sub(b).norm().item().toDouble() / b.norm().item().toDouble();
}

struct Shape {
  std::vector<int64_t> x;
  int64_t out;
  bool bias;
  bool transposed = false;  // x is handed over as a view that is not contiguous
};

class LinearProducts : public testing::TestWithParam<std::tuple<MatrixLibrary, int>> {
 protected:
  static Shape shape() {
    const std::vector<Shape> shapes = {{{2, 7, 12}, 5, true},    {{2, 7, 12}, 5, false}, {{1, 1, 12}, 5, true}, {{3, 12}, 1, false},
                                       {{2, 3, 4, 16}, 8, true}, {{1, 70, 33}, 17, true}, {{6, 12}, 5, true, true}};
    return shapes[static_cast<size_t>(std::get<1>(GetParam()))];
  }
};

// Output and all three gradients in float32 against products in float64.
TEST_P(LinearProducts, EqualThoseInFloat64) {
  const OnLibrary library(std::get<0>(GetParam()));
  const Shape s = shape();
  const int64_t in = s.x.back();
  const auto leaf = [](const Tensor& value) { return value.to(at::kFloat).requires_grad_(true); };
  const Tensor x64 = random(s.x, "x").to(at::kFloat).to(at::kDouble), w64 = random({s.out, in}, "w").to(at::kFloat).to(at::kDouble),
               b64 = random({s.out}, "b").to(at::kFloat).to(at::kDouble);
  const Tensor x = s.transposed ? leaf(x64.t().contiguous()) : leaf(x64), w = leaf(w64), b = leaf(b64);
  const Tensor y = linear(s.transposed ? x.t() : x, w, s.bias ? b : Tensor());
  const Tensor flat = x64.reshape({-1, in});
  Tensor expected = flat.mm(w64.t());
  if (s.bias) expected = expected.add(b64);
  EXPECT_LT(rms(y.reshape({-1, s.out}), expected), 1e-6);
  const Tensor dy = random(y.sizes().vec(), "dy").to(at::kFloat);
  y.mul(dy).sum().backward();
  const Tensor dy64 = dy.to(at::kDouble).reshape({-1, s.out});
  const Tensor dx = dy64.mm(w64).reshape(x64.sizes());
  EXPECT_LT(rms(x.grad(), s.transposed ? dx.t() : dx), 1e-6);
  EXPECT_LT(rms(w.grad(), dy64.t().mm(flat)), 1e-6);
  if (s.bias) {
    EXPECT_LT(rms(b.grad(), dy64.sum(0)), 1e-6);
  }
}

TEST_P(LinearProducts, LeaveOutGradientsNobodyAskedFor) {
  const OnLibrary library(std::get<0>(GetParam()));
  const Shape s = shape();
  const Tensor x = random(s.x, "x").to(at::kFloat), w = random({s.out, s.x.back()}, "w").to(at::kFloat).requires_grad_(true);
  const Tensor y = linear(x, w, Tensor());
  y.sum().backward();
  EXPECT_TRUE(w.grad().defined());
  EXPECT_FALSE(x.grad().defined());
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(linear(x, w, Tensor()).requires_grad());
}

INSTANTIATE_TEST_SUITE_P(Both, LinearProducts,
                         testing::Combine(testing::Values(MatrixLibrary::kMkl, MatrixLibrary::kOneDnn), testing::Range(0, 7)),
                         [](const auto& info) {
                           return matrix_library_name(std::get<0>(info.param)) + "_" + std::to_string(std::get<1>(info.param));
                         });

// Against each group's own product in float64: output and both gradients, groups without rows among them.
TEST(GroupedLinearProducts, EqualOneProductPerGroup) {
  const std::vector<int64_t> counts = {3, 0, 1, 5, 0};
  for (const MatrixLibrary library : {MatrixLibrary::kMkl, MatrixLibrary::kOneDnn}) {
    const OnLibrary on(library);
    const Tensor x64 = random({9, 6}, "x").to(at::kFloat).to(at::kDouble), w64 = random({5, 4, 6}, "w").to(at::kFloat).to(at::kDouble);
    const Tensor x = x64.to(at::kFloat).requires_grad_(true), w = w64.to(at::kFloat).requires_grad_(true);
    const Tensor y = grouped_linear(x, w, counts), dy = random({9, 4}, "dy").to(at::kFloat);
    y.mul(dy).sum().backward();
    Tensor dw = at::zeros({5, 4, 6}, at::kDouble);
    int64_t first = 0;
    for (int64_t group = 0; group < 5; ++group) {
      const int64_t rows = counts[static_cast<size_t>(group)];
      if (rows == 0) continue;
      const Tensor part = x64.narrow(0, first, rows), dpart = dy.to(at::kDouble).narrow(0, first, rows);
      EXPECT_LT(rms(y.narrow(0, first, rows), part.mm(w64[group].t())), 1e-6);
      EXPECT_LT(rms(x.grad().narrow(0, first, rows), dpart.mm(w64[group])), 1e-6);
      dw[group].copy_(dpart.t().mm(part));
      first += rows;
    }
    EXPECT_LT(rms(w.grad(), dw), 1e-6);
    EXPECT_EQ(w.grad()[1].abs().max().item().toDouble(), 0.0);
    const at::NoGradGuard no_grad;
    EXPECT_TRUE(at::equal(grouped_linear(x, w, counts), y));
    EXPECT_EQ(grouped_linear(x.narrow(0, 0, 0), w, {0, 0, 0, 0, 0}).sizes(), at::IntArrayRef({0, 4}));
  }
  EXPECT_THROW(grouped_linear(random({2, 6}, "x"), random({5, 4, 6}, "w"), {2}), c10::Error);
}

TEST(GroupedLinearProducts, LayerHoldsAMatrixPerGroup) {
  GroupedLinear layer(3, 16, 8);
  EXPECT_EQ(layer.weight()->value.sizes(), at::IntArrayRef({3, 8, 16}));
  EXPECT_EQ(layer.flops(5.0), 2.0 * 5 * 16 * 8);
  layer.parameters().materialise(1, at::TensorOptions().dtype(at::kFloat));
  EXPECT_LE(layer.weight()->value.abs().max().item().toDouble(), 0.25);
  EXPECT_GT(layer.weight()->value.abs().max().item().toDouble(), 0.24);
  EXPECT_EQ(layer.forward(random({4, 16}, "x").to(at::kBFloat16), {1, 0, 3}).scalar_type(), at::kBFloat16);
}

TEST(MatrixLibraries, AreTheSameInFloat64AndBfloat16) {
  for (const auto dtype : {at::kDouble, at::kBFloat16}) {
    const Tensor x = random({4, 9, 16}, "x").to(dtype), w = random({8, 16}, "w").to(dtype);
    const OnLibrary mkl(MatrixLibrary::kMkl);
    const Tensor one = linear(x, w, Tensor());
    const OnLibrary onednn(MatrixLibrary::kOneDnn);
    EXPECT_TRUE(at::equal(linear(x, w, Tensor()), one));
    EXPECT_EQ(one.scalar_type(), dtype);
  }
}

TEST(MatrixLibraries, HaveNames) {
  for (const MatrixLibrary library : {MatrixLibrary::kMkl, MatrixLibrary::kOneDnn}) {
    EXPECT_EQ(*parse_matrix_library(matrix_library_name(library)), library);
  }
  EXPECT_EQ(parse_matrix_library("blas").status().message(), "unknown matrix library \"blas\": use mkl or onednn");
  const MatrixLibrary measured = measure_matrix_library();
  EXPECT_TRUE(measured == MatrixLibrary::kMkl || measured == MatrixLibrary::kOneDnn);
}

TEST(LinearLayer, DeclaresItsShapeParametersAndCost) {
  Linear layer(3, 5, {.bias = true});
  EXPECT_EQ(layer.in(), 3);
  EXPECT_EQ(layer.out(), 5);
  EXPECT_EQ(layer.parameters().count(), 20);
  EXPECT_EQ(layer.flops(10.0), 2.0 * 10 * 15);
  EXPECT_TRUE(layer.parameters().find("weight")->facts.weight_decay);
  EXPECT_FALSE(layer.parameters().find("bias")->facts.weight_decay);
  EXPECT_EQ(Linear(3, 5).parameters().count(), 15);
}

TEST(LinearLayer, ComputesInTheDtypeOfItsInput) {
  Linear layer(8, 4, {.bias = true});
  layer.parameters().materialise(1, at::kFloat);
  const Tensor x = random({2, 3, 8}, "x");
  const Tensor exact = layer.forward(x);
  EXPECT_EQ(exact.scalar_type(), at::kDouble);
  EXPECT_EQ(layer.forward(x.to(at::kBFloat16)).scalar_type(), at::kBFloat16);
  EXPECT_LT(rms(layer.forward(x.to(at::kFloat)), exact), 1e-6);
  EXPECT_LT(rms(layer.forward(x.to(at::kBFloat16)), exact), 2e-2);
}

TEST(LinearLayer, CanShareItsWeight) {
  Parameters embedding;
  const ParameterPtr weight = embedding.add("weight", {6, 3}, initialise::normal(1.0));
  Linear head(weight);
  EXPECT_EQ(head.in(), 3);
  EXPECT_EQ(head.out(), 6);
  EXPECT_EQ(head.parameters().count(), 0) << "a shared weight is its owner's";
  embedding.materialise(1, at::kFloat);
  EXPECT_EQ(head.forward(random({2, 3}, "x").to(at::kFloat)).size(1), 6);
}

}  // namespace
}  // namespace hippodrome::linear_test
