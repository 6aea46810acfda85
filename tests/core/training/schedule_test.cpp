#include "core/training/schedule.h"

#include <gtest/gtest.h>

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
  for (int64_t step = 4; step < 104; ++step) EXPECT_GT(learning_rate(schedule, step), learning_rate(schedule, step + 1));
}

TEST(LearningRate, NeedsNoWarmupAndNoFall) {
  EXPECT_DOUBLE_EQ(learning_rate({.peak = 1.0, .warmup = 0, .steps = 10}, 0), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate({.peak = 1.0, .warmup = 0, .steps = 10, .final_fraction = 1.0}, 9), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate({.peak = 1.0, .warmup = 0, .steps = 1}, 0), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate({.peak = 1.0, .warmup = 10, .steps = 10}, 9), 1.0);
}

}  // namespace
}  // namespace hippodrome
