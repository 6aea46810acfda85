#include "core/measure/timing.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <thread>

namespace hippodrome {
namespace {

void wait_ms(double ms) { std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(ms)); }

TEST(Quantile, InterpolatesBetweenSortedValues) {
  EXPECT_DOUBLE_EQ(quantile({3.0, 1.0, 2.0}, 0.5), 2.0);
  EXPECT_DOUBLE_EQ(quantile({4.0, 1.0}, 0.5), 2.5);
  EXPECT_DOUBLE_EQ(quantile({5.0}, 0.9), 5.0);
  EXPECT_DOUBLE_EQ(quantile({0.0, 10.0}, 0.2), 2.0);
  EXPECT_DOUBLE_EQ(quantile({2.0, 1.0, 3.0}, 0.0), 1.0);
  EXPECT_DOUBLE_EQ(quantile({2.0, 1.0, 3.0}, 1.0), 3.0);
  EXPECT_TRUE(std::isnan(quantile({}, 0.5)));
}

TEST(MeasureTime, WarmsUpThenTakesItsSamples) {
  int calls = 0, calls_before = 0;
  const Timing timing = measure_time(
      [&] {
        ++calls;
        wait_ms(2.0);
      },
      {.repeats = 4, .time_limit = 5.0, .settle = 0.5}, [&] { calls_before = calls; });
  EXPECT_EQ(timing.samples.size(), 4u);
  EXPECT_EQ(timing.warmups, calls_before);
  EXPECT_EQ(timing.warmups + 4, calls);
  EXPECT_GE(timing.warmups, 2) << "two medians are needed to agree";
  EXPECT_FALSE(timing.timed_out);
  EXPECT_GE(timing.median(), 2e-3);
}

TEST(MeasureTime, GoesOnWarmingUpWhileTimesFall) {
  int calls = 0;
  const auto faster_and_faster = [&] { wait_ms(calls++ < 5 ? 64.0 / (1 << calls) : 1.0); };
  const Timing timing = measure_time(faster_and_faster, {.repeats = 3, .time_limit = 0.0, .settle = 0.3, .most_warmups = 30});
  EXPECT_GE(timing.warmups, 4);
  EXPECT_LE(timing.warmups, 30);
  EXPECT_EQ(timing.samples.size(), 3u);
  EXPECT_FALSE(timing.timed_out) << "a limit of 0 is no limit";
}

TEST(MeasureTime, StopsWarmingUpAfterSomeCalls) {
  int calls = 0;
  const Timing timing = measure_time([&] { wait_ms(++calls % 2 ? 1.0 : 8.0); }, {.repeats = 1, .time_limit = 0.0, .settle = 0.0, .most_warmups = 5});
  EXPECT_EQ(timing.warmups, 5);
}

TEST(MeasureTime, KeepsToItsTimeLimit) {
  const auto start = std::chrono::steady_clock::now();
  const Timing timing = measure_time([] { wait_ms(20.0); }, {.repeats = 1000, .time_limit = 0.2});
  EXPECT_TRUE(timing.timed_out);
  EXPECT_GE(timing.samples.size(), 1u);
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), 2.0);
}

TEST(MeasureTime, AFirstCallPastTheLimitIsTheOneSample) {
  int calls = 0;
  const Timing timing = measure_time(
      [&] {
        ++calls;
        wait_ms(30.0);
      },
      {.repeats = 3, .time_limit = 0.01});
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(timing.samples.size(), 1u);
  EXPECT_EQ(timing.warmups, 0);
  EXPECT_TRUE(timing.timed_out);
}

TEST(PowerLaw, FindsTheExponent) {
  EXPECT_NEAR(power_law_exponent({1, 2, 4, 8}, {3, 12, 48, 192}), 2.0, 1e-12);
  EXPECT_NEAR(power_law_exponent({256, 4096}, {5, 5}), 0.0, 1e-12);
  EXPECT_NEAR(power_law_exponent({1, 10, 100}, {2.0, 0.2, 0.02}), -1.0, 1e-12);
}

TEST(Crossover, IsWhereACurveFallsBelowForGood) {
  // a = 8, b = x: equal at 8.
  EXPECT_NEAR(crossover({1, 4, 16, 64}, {8, 8, 8, 8}, {1, 4, 16, 64}), 8.0, 1e-9);
  EXPECT_EQ(crossover({1, 4, 16}, {1, 1, 1}, {2, 2, 2}), 0.0) << "below everywhere";
  EXPECT_TRUE(std::isnan(crossover({1, 4, 16}, {2, 2, 2}, {1, 1, 1}))) << "never below";
  EXPECT_TRUE(std::isnan(crossover({1, 4, 16}, {1, 1, 3}, {2, 2, 2}))) << "below, but not in the end";
  EXPECT_TRUE(std::isnan(crossover({1, 4}, {2, 2}, {2, 2}))) << "equal is not below";
  EXPECT_TRUE(std::isnan(crossover({}, {}, {})));
  // Below, above, below again: the last crossing counts, halfway in logarithms.
  EXPECT_NEAR(crossover({1, 10, 100, 1000}, {1, 4, 4, 1}, {2, 2, 2, 2}), std::sqrt(100.0 * 1000.0), 1e-6);
}

}  // namespace
}  // namespace hippodrome
