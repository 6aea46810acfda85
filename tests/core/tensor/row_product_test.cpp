#include "core/tensor/row_product.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <hwy/highway.h>

#include "core/tensor/matmul.h"

namespace hippodrome::row_product_test {
namespace {

double farthest(const Tensor& a, const Tensor& b) { return a.to(at::kDouble).sub(b.to(at::kDouble)).abs().max().item().toDouble(); }

// Every length up to three times the widest vector, and every count of outputs left over by fours, on each instruction set.
TEST(RowProduct, EqualsTheDoubleProduct) {
  for (const int64_t target : {int64_t{HWY_AVX3}, int64_t{HWY_AVX2}, int64_t{0}}) {  // 0: portable code
    if ((hwy::SupportedTargets() & target) != target) continue;
    hwy::GetChosenTarget().Update(target);
    for (int64_t in = 1; in <= 100; ++in) {
      for (const int64_t out : {1, 2, 3, 4, 7, 33}) {
        const Tensor weight = at::randn({out, in}), x = at::randn({in}), bias = at::randn({out});
        Tensor y = at::zeros({out});
        row_product(weight.const_data_ptr<float>(), x.const_data_ptr<float>(), bias.const_data_ptr<float>(), in, 0, out,
                    y.mutable_data_ptr<float>());
        const Tensor want = at::linear(x.to(at::kDouble), weight.to(at::kDouble), bias.to(at::kDouble));
        ASSERT_LT(farthest(y, want), 2e-5) << in << " to " << out;
      }
    }
  }
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

TEST(RowProduct, IsWhatLinearUsesForOneRowWithoutGradients) {
  const at::NoGradGuard no_grad;
  for (const bool with_bias : {false, true}) {
    const Tensor weight = at::randn({1000, 300}), x = at::randn({1, 1, 300}), bias = with_bias ? at::randn({1000}) : Tensor();
    const Tensor y = linear(x, weight, bias);
    EXPECT_EQ(y.sizes(), at::IntArrayRef({1, 1, 1000}));
    Tensor want = at::zeros({1000});
    row_product(weight.const_data_ptr<float>(), x.const_data_ptr<float>(), with_bias ? bias.const_data_ptr<float>() : nullptr, 300, 0,
                1000, want.mutable_data_ptr<float>());
    EXPECT_TRUE(y.view({1000}).equal(want));
    // The same bits with one thread.
    const int threads = at::get_num_threads();
    at::set_num_threads(1);
    EXPECT_TRUE(linear(x, weight, bias).equal(y));
    at::set_num_threads(threads);
  }
  // What is not dense, or in another type, goes the ordinary way.
  const Tensor weight = at::randn({300, 40}).t(), x = at::randn({1, 300});
  EXPECT_LT(farthest(linear(x, weight, Tensor()), at::linear(x, weight)), 1e-4);
  const Tensor strided = at::randn({1, 600}).slice(1, 0, 600, 2), dense = at::randn({40, 300});
  EXPECT_LT(farthest(linear(strided, dense, Tensor()), at::linear(strided, dense)), 1e-4);
  EXPECT_EQ(linear(x.to(at::kDouble), dense.to(at::kDouble), Tensor()).scalar_type(), at::kDouble);
}

TEST(RowProduct, GradientsGoTheOrdinaryWay) {
  const Tensor weight = at::randn({5, 7}).requires_grad_(), x = at::randn({1, 7}).requires_grad_();
  linear(x, weight, Tensor()).sum().backward();
  EXPECT_LT(farthest(x.grad(), weight.detach().sum(0, true)), 1e-6);
  EXPECT_LT(farthest(weight.grad(), x.detach().expand({5, 7})), 1e-6);
}

}  // namespace
}  // namespace hippodrome::row_product_test
