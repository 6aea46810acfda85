#include "core/layer/derived.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/ones_like.h>
#include <gtest/gtest.h>

#include "core/training/adamw.h"

namespace hippodrome {
namespace {

class DerivedTest : public testing::Test {
 protected:
  DerivedTest() {
    parameter_ = parameters_.add("a", {3}, initialise::normal(1.0));
    parameters_.materialise(1, at::kFloat);
    parameters_.set_requires_grad(true);
  }
  Tensor get() {
    return derived_.get({parameter_->value}, at::kFloat, [this] {
      ++derivations_;
      return parameter_->value.exp();
    });
  }

  Parameters parameters_;
  ParameterPtr parameter_;
  Derived<Tensor> derived_;
  int derivations_ = 0;
};

TEST_F(DerivedTest, IsKeptWithoutGradientsOnly) {
  get(), get();
  EXPECT_EQ(derivations_, 2);
  const at::NoGradGuard no_grad;
  get(), get();
  EXPECT_EQ(derivations_, 3);
}

TEST_F(DerivedTest, FollowsTheOptimiser) {
  AdamW optimiser(parameters_, {});
  const at::NoGradGuard no_grad;
  for (int step = 0; step < 3; ++step) {
    get();
    parameter_->value.mutable_grad() = at::ones_like(parameter_->value);
    optimiser.step(/*learning_rate=*/0.1, /*clip_norm=*/0.0);
    EXPECT_TRUE(at::equal(get(), parameter_->value.exp())) << step;
  }
  EXPECT_EQ(derivations_, 4);
}

}  // namespace
}  // namespace hippodrome
