#include "core/tensor/dropout.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

namespace hippodrome {
namespace {

TEST(Dropout, DropsTheShareAskedForAndKeepsTheMean) {
  const Tensor y = dropout(at::ones({200, 500}), 0.3, 7, "blocks.0");
  // Of 10^5 draws the share is 0.3 to within five standard deviations.
  EXPECT_NEAR(y.eq(0.0).to(at::kDouble).mean().item().toDouble(), 0.3, 0.0073);
  EXPECT_NEAR(y.max().item().toDouble(), 1.0 / 0.7, 1e-6);
}

TEST(Dropout, DependsOnDrawSiteAndIndexAlone) {
  const Tensor x = at::ones({40, 50});
  const Tensor y = dropout(x, 0.5, 7, "a");
  EXPECT_TRUE(at::equal(dropout(x, 0.5, 7, "a"), y));
  EXPECT_TRUE(at::equal(dropout(x.view({2000}), 0.5, 7, "a").view({40, 50}), y));
  EXPECT_FALSE(at::equal(dropout(x, 0.5, 8, "a"), y));
  EXPECT_FALSE(at::equal(dropout(x, 0.5, 7, "b"), y));
}

TEST(Dropout, DropsGradientsWhereItDropsValues) {
  const Tensor x = at::ones({30}).requires_grad_(true);
  const Tensor y = dropout(x, 0.5, 1, "a");
  y.sum().backward();
  EXPECT_TRUE(at::equal(x.grad(), y.detach()));
}

}  // namespace
}  // namespace hippodrome
