// The elementary functions of the selective-scan kernels, on every instruction set: the scan's error is theirs,
// accumulated.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "architectures/ssm/selective_scan/op.h"
#include "tests/architectures/ssm/selective_scan_cases.h"

namespace hippodrome::selective_scan_math_test {
namespace {

using selective_scan_test::for_each_instruction_set;

// The vectorised functions on their own, over the whole range that matters: the scan's error is theirs, accumulated.
template <class T>
double worst_relative_error(s6::Function function, double low, double high, double (*exact)(double)) {
  const int64_t count = 200003;
  std::vector<T> x(count), result(count);
  for (int64_t i = 0; i < count; ++i) x[i] = static_cast<T>(low + (high - low) * i / (count - 1));
  s6::apply(function, x.data(), result.data(), count);
  double worst = 0.0;
  for (int64_t i = 0; i < count; ++i) {
    const double want = exact(static_cast<double>(x[i]));
    worst = std::max(worst, std::abs(static_cast<double>(result[i]) - want) / want);
  }
  return worst;
}

double softplus(double x) { return x > 20.0 ? x : std::log1p(std::exp(x)); }
double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

void check_exponential() {
  // One reduced range: polynomial and rounding, at most 1.2 units in the last place (6e-8 is half a unit).
  EXPECT_LE(worst_relative_error<float>(s6::Function::kExp2, -0.5, 0.5, [](double x) { return std::exp2(x); }), 1.0e-7);
  EXPECT_LE(worst_relative_error<double>(s6::Function::kExp2, -0.5, 0.5, [](double x) { return std::exp2(x); }), 3e-16);
  // All of them: every power of two that is a normal number.
  EXPECT_LE(worst_relative_error<float>(s6::Function::kExp2, -125.0, 127.0, [](double x) { return std::exp2(x); }),
            1.0e-7);
  EXPECT_LE(worst_relative_error<float>(s6::Function::kExp, -87.0, 88.0, [](double x) { return std::exp(x); }), 1.5e-7);
  EXPECT_LE(worst_relative_error<double>(s6::Function::kExp, -700.0, 700.0, [](double x) { return std::exp(x); }),
            4e-16);
  // Near zero, where the error of a slowly decaying state would accumulate: the decay itself, 1 - e^x, is right.
  std::vector<float> x, result(1000);
  for (int i = 0; i < 1000; ++i) x.push_back(-1e-6f * static_cast<float>(i));
  s6::apply(s6::Function::kExp2, x.data(), result.data(), 1000);
  EXPECT_EQ(result[0], 1.0f);
  for (int i = 0; i < 1000; ++i) EXPECT_NEAR(result[i], std::exp2(static_cast<double>(x[i])), 3.1e-8);
}

TEST(SelectiveScanMath, Exponential) { for_each_instruction_set(check_exponential); }

void check_extremes_and_nan() {
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {-infinity, -200.0f, 200.0f, infinity, std::numeric_limits<float>::quiet_NaN()};
  std::vector<float> result(x.size());
  s6::apply(s6::Function::kExp, x.data(), result.data(), 5);
  EXPECT_LE(result[0], 2e-38f);
  EXPECT_LE(result[1], 2e-38f);
  EXPECT_GE(result[2], 1e38f);
  EXPECT_GE(result[3], 1e38f);
  EXPECT_TRUE(std::isnan(result[4]));
  s6::apply(s6::Function::kSigmoid, x.data(), result.data(), 5);
  EXPECT_NEAR(result[0], 0.0f, 1e-37f);
  EXPECT_EQ(result[3], 1.0f);
  EXPECT_TRUE(std::isnan(result[4]));
  s6::apply(s6::Function::kSoftplus, x.data(), result.data(), 5);
  EXPECT_NEAR(result[0], 0.0f, 1e-37f);
  EXPECT_EQ(result[2], 200.0f);
  EXPECT_EQ(result[3], infinity);
  EXPECT_TRUE(std::isnan(result[4]));
}

TEST(SelectiveScanMath, ExtremesAndNaN) { for_each_instruction_set(check_extremes_and_nan); }

void check_softplus_and_sigmoid() {
  EXPECT_LE(worst_relative_error<float>(s6::Function::kSoftplus, -80.0, 40.0, softplus), 3e-7);
  EXPECT_LE(worst_relative_error<double>(s6::Function::kSoftplus, -600.0, 40.0, softplus), 8e-16);
  EXPECT_LE(worst_relative_error<float>(s6::Function::kSigmoid, -80.0, 40.0, sigmoid), 3e-7);
  EXPECT_LE(worst_relative_error<double>(s6::Function::kSigmoid, -600.0, 40.0, sigmoid), 8e-16);
  // Above the threshold softplus is the identity, in float64 a visible difference.
  const double x = 20.5;
  double y = 0.0;
  s6::apply(s6::Function::kSoftplus, &x, &y, 1);
  EXPECT_EQ(y, x);
}

TEST(SelectiveScanMath, SoftplusAndSigmoid) { for_each_instruction_set(check_softplus_and_sigmoid); }

}  // namespace
}  // namespace hippodrome::selective_scan_math_test
