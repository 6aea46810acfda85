// The vector functions on their own, on every instruction set of this machine, against the double-precision library.
#include "core/tensor/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/core/tensor/vector_math_test.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

#include <cstddef>

#include "core/tensor/vector_lanes-inl.h"
#include "core/tensor/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome {
namespace HWY_NAMESPACE {

template <class T, class Function>
HWY_INLINE void vector_math_apply(const T* x, T* y, size_t count, const Function& function) {
  for_each_vector<T>(0, static_cast<int64_t>(count), [&](int64_t i, const auto& lanes) HWY_ATTR {
    const hn::ScalableTag<T> d;
    lanes.store(function(d, lanes.load(x + i)), y + i);
  });
}

#define HIPPODROME_VECTOR_MATH_TEST(NAME, FUNCTION)                                         \
  void NAME##Float(const float* x, float* y, size_t count) {                                \
    vector_math_apply(x, y, count, [](auto d, auto v) HWY_ATTR { return FUNCTION(d, v); }); \
  }                                                                                         \
  void NAME##Double(const double* x, double* y, size_t count) {                             \
    vector_math_apply(x, y, count, [](auto d, auto v) HWY_ATTR { return FUNCTION(d, v); }); \
  }

HIPPODROME_VECTOR_MATH_TEST(VectorExp, vector_exp)
HIPPODROME_VECTOR_MATH_TEST(VectorExpNonpositive, vector_exp_nonpositive)
HIPPODROME_VECTOR_MATH_TEST(VectorSigmoid, vector_sigmoid)
HIPPODROME_VECTOR_MATH_TEST(VectorSilu, vector_silu)
HIPPODROME_VECTOR_MATH_TEST(VectorExp2, vector_exp2)
HIPPODROME_VECTOR_MATH_TEST(VectorTanh, vector_tanh)
#undef HIPPODROME_VECTOR_MATH_TEST

}  // namespace HWY_NAMESPACE
}  // namespace hippodrome
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace hippodrome {

HWY_EXPORT(VectorExpFloat);
HWY_EXPORT(VectorExpDouble);
HWY_EXPORT(VectorExpNonpositiveFloat);
HWY_EXPORT(VectorExpNonpositiveDouble);
HWY_EXPORT(VectorSigmoidFloat);
HWY_EXPORT(VectorSigmoidDouble);
HWY_EXPORT(VectorSiluFloat);
HWY_EXPORT(VectorSiluDouble);
HWY_EXPORT(VectorExp2Float);
HWY_EXPORT(VectorExp2Double);
HWY_EXPORT(VectorTanhFloat);
HWY_EXPORT(VectorTanhDouble);

namespace vector_math_test {
namespace {

// Runs `body` once per instruction set, restoring the dispatcher's own choice afterwards.
template <class Body>
void on_every_instruction_set(const Body& body) {
  for (int64_t target : {int64_t{HWY_AVX3}, int64_t{HWY_AVX2}, int64_t{0}}) {  // 0: portable code
    if ((hwy::SupportedTargets() & target) != target) continue;
    SCOPED_TRACE(target == 0 ? "portable" : hwy::TargetName(target));
    hwy::GetChosenTarget().Update(target);
    body();
  }
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

// Evenly spaced and, near 0, logarithmically spaced arguments.
template <class T>
std::vector<T> arguments(double low, double high, size_t count) {
  std::vector<T> x;
  for (size_t i = 0; i < count; ++i)
    x.push_back(static_cast<T>(low + (high - low) * static_cast<double>(i) / static_cast<double>(count - 1)));
  for (double magnitude = 1e-30; magnitude < 1; magnitude *= 1.3) {
    if (low < 0) x.push_back(static_cast<T>(-magnitude));
    if (high > 0) x.push_back(static_cast<T>(magnitude));
  }
  return x;
}

template <class T, class Vector, class Exact>
double largest_relative_error(const std::vector<T>& x, const Vector& vector, const Exact& exact) {
  std::vector<T> y(x.size());
  vector(x.data(), y.data(), x.size());
  double largest = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double expected = exact(static_cast<double>(x[i]));
    if (expected == 0) continue;
    const double error = std::abs((static_cast<double>(y[i]) - expected) / expected);
    largest = std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(largest, error);
  }
  return largest;
}

double exp64(double x) { return std::exp(x); }
double sigmoid64(double x) { return 1 / (1 + std::exp(-x)); }
double silu64(double x) { return x / (1 + std::exp(-x)); }

TEST(VectorMath, FloatExponentialIsPreciseOverItsRange) {
  const auto wide = arguments<float>(-87.336, 88.72, 3'000'001);
  const auto reduced = arguments<float>(-0.3466, 0.3466, 1'000'001);
  const auto nonpositive = arguments<float>(-87.336, 0, 3'000'001);
  on_every_instruction_set([&] {
    EXPECT_LE(largest_relative_error(wide, HWY_DYNAMIC_DISPATCH(VectorExpFloat), exp64), 2e-7);
    EXPECT_LE(largest_relative_error(reduced, HWY_DYNAMIC_DISPATCH(VectorExpFloat), exp64), 2e-7);
    EXPECT_LE(largest_relative_error(nonpositive, HWY_DYNAMIC_DISPATCH(VectorExpNonpositiveFloat), exp64), 2e-7);
  });
}

TEST(VectorMath, DoubleExponentialIsPreciseOverItsRange) {
  const auto wide = arguments<double>(-707.9, 709.7, 1'000'001);
  const auto nonpositive = arguments<double>(-707.9, 0, 1'000'001);
  on_every_instruction_set([&] {
    EXPECT_LE(largest_relative_error(wide, HWY_DYNAMIC_DISPATCH(VectorExpDouble), exp64), 1e-15);
    EXPECT_LE(largest_relative_error(nonpositive, HWY_DYNAMIC_DISPATCH(VectorExpNonpositiveDouble), exp64), 1e-15);
  });
}

TEST(VectorMath, ExponentialAtTheEndsOfTheRange) {
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {0, -0.0f, -88, -100, -150, -1000, -1e9f, -1e38f, -3.4e38f, -infinity};
  const std::vector<double> x64 = {0, -0.0, -709, -746, -1000, -3e9, -1e38, -1e300, -1.7e308, -infinity};
  on_every_instruction_set([&] {
    std::vector<float> y(x.size()), y_any(x.size());
    HWY_DYNAMIC_DISPATCH(VectorExpNonpositiveFloat)(x.data(), y.data(), x.size());
    HWY_DYNAMIC_DISPATCH(VectorExpFloat)(x.data(), y_any.data(), x.size());
    std::vector<double> y64(x64.size()), y64_any(x64.size());
    HWY_DYNAMIC_DISPATCH(VectorExpNonpositiveDouble)(x64.data(), y64.data(), x64.size());
    HWY_DYNAMIC_DISPATCH(VectorExpDouble)(x64.data(), y64_any.data(), x64.size());
    for (size_t i = 0; i < x.size(); ++i) {
      EXPECT_EQ(y[i], i < 2 ? 1.0f : 0.0f) << x[i];
      EXPECT_EQ(y_any[i], i < 2 ? 1.0f : 0.0f) << x[i];
      EXPECT_EQ(y64[i], i < 2 ? 1.0 : 0.0) << x64[i];
      EXPECT_EQ(y64_any[i], i < 2 ? 1.0 : 0.0) << x64[i];
    }
    const std::vector<float> above = {89, 1000, 3e38f, infinity};
    const std::vector<double> above64 = {709.8, 1000, 1e300, infinity};
    std::vector<float> of_above(4);
    std::vector<double> of_above64(4);
    HWY_DYNAMIC_DISPATCH(VectorExpFloat)(above.data(), of_above.data(), 4);
    HWY_DYNAMIC_DISPATCH(VectorExpDouble)(above64.data(), of_above64.data(), 4);
    for (size_t i = 0; i < 4; ++i) EXPECT_TRUE(std::isinf(of_above[i]) && std::isinf(of_above64[i])) << i;
  });
}

TEST(VectorMath, NotANumberIsKept) {
  const float nan = std::nanf("");
  const double nan64 = std::nan("");
  on_every_instruction_set([&] {
    for (auto* function : {HWY_DYNAMIC_DISPATCH(VectorExpFloat), HWY_DYNAMIC_DISPATCH(VectorExpNonpositiveFloat),
                           HWY_DYNAMIC_DISPATCH(VectorSigmoidFloat), HWY_DYNAMIC_DISPATCH(VectorSiluFloat),
                           HWY_DYNAMIC_DISPATCH(VectorExp2Float), HWY_DYNAMIC_DISPATCH(VectorTanhFloat)}) {
      float y = 0;
      function(&nan, &y, 1);
      EXPECT_TRUE(std::isnan(y));
    }
    for (auto* function : {HWY_DYNAMIC_DISPATCH(VectorExpDouble), HWY_DYNAMIC_DISPATCH(VectorExpNonpositiveDouble),
                           HWY_DYNAMIC_DISPATCH(VectorSigmoidDouble), HWY_DYNAMIC_DISPATCH(VectorSiluDouble),
                           HWY_DYNAMIC_DISPATCH(VectorExp2Double), HWY_DYNAMIC_DISPATCH(VectorTanhDouble)}) {
      double y = 0;
      function(&nan64, &y, 1);
      EXPECT_TRUE(std::isnan(y));
    }
  });
}

TEST(VectorMath, PowersOfTwoArePreciseOverTheirRange) {
  const auto wide = arguments<float>(-125.9, 127.9, 1'000'001);
  const auto wide64 = arguments<double>(-1021.9, 1023.9, 1'000'001);
  const std::vector<float> beyond = {-1e30f, -150.0f, 200.0f, 1e30f};
  on_every_instruction_set([&] {
    const auto exp2_64 = [](double x) { return std::exp2(x); };
    EXPECT_LE(largest_relative_error(wide, HWY_DYNAMIC_DISPATCH(VectorExp2Float), exp2_64), 1e-7);
    EXPECT_LE(largest_relative_error(wide64, HWY_DYNAMIC_DISPATCH(VectorExp2Double), exp2_64), 3e-16);
    std::vector<float> y(4);
    HWY_DYNAMIC_DISPATCH(VectorExp2Float)(beyond.data(), y.data(), 4);
    EXPECT_TRUE(y[0] >= 0 && y[0] < 1.2e-38f && y[1] >= 0 && y[1] < 1.2e-38f) << y[0] << " " << y[1];
    EXPECT_TRUE(y[2] > 3.4e38f && y[3] > 3.4e38f) << y[2] << " " << y[3];
  });
}

TEST(VectorMath, Tanh) {
  const auto x = arguments<float>(-30, 30, 1'000'001);
  const auto x64 = arguments<double>(-60, 60, 1'000'001);
  const std::vector<float> ends = {-1e30f, -0.0f, 0.0f, std::numeric_limits<float>::infinity()};
  on_every_instruction_set([&] {
    const auto tanh64 = [](double v) { return std::tanh(v); };
    EXPECT_LE(largest_relative_error(x, HWY_DYNAMIC_DISPATCH(VectorTanhFloat), tanh64), 3e-7);
    EXPECT_LE(largest_relative_error(x64, HWY_DYNAMIC_DISPATCH(VectorTanhDouble), tanh64), 1e-15);
    std::vector<float> y(4);
    HWY_DYNAMIC_DISPATCH(VectorTanhFloat)(ends.data(), y.data(), 4);
    EXPECT_EQ(y, (std::vector<float>{-1, 0, 0, 1}));
  });
}

TEST(VectorMath, SigmoidAndSilu) {
  const auto x = arguments<float>(-80, 80, 1'000'001);
  const auto x64 = arguments<double>(-700, 700, 100'001);
  on_every_instruction_set([&] {
    EXPECT_LE(largest_relative_error(x, HWY_DYNAMIC_DISPATCH(VectorSigmoidFloat), sigmoid64), 3e-7);
    EXPECT_LE(largest_relative_error(x, HWY_DYNAMIC_DISPATCH(VectorSiluFloat), silu64), 4e-7);
    EXPECT_LE(largest_relative_error(x64, HWY_DYNAMIC_DISPATCH(VectorSigmoidDouble), sigmoid64), 1e-15);
    EXPECT_LE(largest_relative_error(x64, HWY_DYNAMIC_DISPATCH(VectorSiluDouble), silu64), 1e-15);
    const std::vector<float> ends = {-1e30f, 1e30f};
    std::vector<float> sigmoid(2), silu(2);
    HWY_DYNAMIC_DISPATCH(VectorSigmoidFloat)(ends.data(), sigmoid.data(), 2);
    HWY_DYNAMIC_DISPATCH(VectorSiluFloat)(ends.data(), silu.data(), 2);
    EXPECT_LT(sigmoid[0], 3e-39f);
    EXPECT_EQ(sigmoid[1], 1);
    EXPECT_EQ(silu[0], 0);
    EXPECT_EQ(silu[1], 1e30f);
  });
}

}  // namespace
}  // namespace vector_math_test
}  // namespace hippodrome
#endif  // HWY_ONCE
