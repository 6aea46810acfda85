#include "core/training/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace hippodrome {
namespace {

TEST(LearningRate, RisesThenFallsAlongHalfACosine) {
  const LearningRateSchedule schedule{.peak = 2.0, .warmup = 4, .steps = 104, .final_fraction = 0.1};
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 0), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 3), 2.0);
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 4), 2.0);
  EXPECT_NEAR(learning_rate(schedule, 54), 2.0 * (0.1 + 0.9 * 0.5), 1e-12);
  EXPECT_NEAR(learning_rate(schedule, 29), 2.0 * (0.1 + 0.9 * 0.5 * (1.0 + std::sqrt(0.5))), 1e-12);
  EXPECT_NEAR(learning_rate(schedule, 104), 0.2, 1e-12);
  EXPECT_NEAR(learning_rate(schedule, 1000), 0.2, 1e-12);
  for (int64_t step = 4; step < 104; ++step)
    EXPECT_GT(learning_rate(schedule, step), learning_rate(schedule, step + 1));
}

TEST(LearningRate, NeedsNoWarmupAndNoFall) {
  EXPECT_DOUBLE_EQ(learning_rate({.peak = 1.0, .warmup = 0, .steps = 10}, 0), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate({.peak = 1.0, .warmup = 0, .steps = 10, .final_fraction = 1.0}, 9), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate({.peak = 1.0, .warmup = 0, .steps = 1}, 0), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate({.peak = 1.0, .warmup = 10, .steps = 10}, 9), 1.0);
}

// Vaswani et al. 2017, equation 3, at the base model's width: lrate = 512^-½ · min(step^-½, step · 4000^-1.5).
TEST(LearningRate, FallsWithTheRootOfTheStep) {
  const LearningRateSchedule schedule{
      .peak = 1.0 / std::sqrt(512.0 * 4000.0), .warmup = 4000, .steps = 100000, .inverse_sqrt = true};
  for (const int64_t step : {1, 100, 3999, 4000, 4001, 16000, 99999}) {
    const double paper =
        std::min(1.0 / std::sqrt(static_cast<double>(step)), static_cast<double>(step) * std::pow(4000.0, -1.5));
    EXPECT_NEAR(learning_rate(schedule, step - 1), paper / std::sqrt(512.0), 1e-15) << step;
  }
  EXPECT_DOUBLE_EQ(learning_rate({.peak = 1.0, .warmup = 0, .steps = 10, .inverse_sqrt = true}, 3), 0.5);
}

}  // namespace
}  // namespace hippodrome
