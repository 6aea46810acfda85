// Sigmoid and tanh for Highway vectors of float and double. Included once per instruction set.
//
// Both come from one reduced exponential, e^y = 2^n (1 + p), y = n ln 2 + r, p = r + r^2 q(r), so that e^y - 1 keeps
// its relative accuracy near 0. q is the polynomial through the Chebyshev nodes of [-ln2/2, ln2/2]; its own relative
// error is 2.5e-8 (float, degree 4) and 6e-19 (double, degree 10). Measured on a grid over the whole range by
// lstm_scan_test: below 3e-7 relative for float and 1e-15 for double. NaN stays NaN.
#if defined(HIPPODROME_RECURRENT_VECTOR_GATES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HIPPODROME_RECURRENT_VECTOR_GATES_INL_H_
#undef HIPPODROME_RECURRENT_VECTOR_GATES_INL_H_
#else
#define HIPPODROME_RECURRENT_VECTOR_GATES_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::gates::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
struct ExpConstants;

template <>
struct ExpConstants<float> {
  using Bits = int32_t;
  static constexpr int kMantissaBits = 23, kExponentBias = 127;
  static constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  static constexpr float kLn2High = 0.693145752f, kLn2Low = 1.42860677e-6f;  // high part has 9 trailing zero bits
  static constexpr float kLargest = 87.0f;                                   // e^±87 is still a normal number
  static constexpr float kSaturated = 20.0f;                                 // 1 - tanh(10) is far below half an ulp
  static constexpr float kQ[] = {5.000000000e-01f, 1.666657667e-01f, 4.166655421e-02f, 8.363232884e-03f,
                                 1.392625083e-03f};
};

template <>
struct ExpConstants<double> {
  using Bits = int64_t;
  static constexpr int kMantissaBits = 52, kExponentBias = 1023;
  static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kLn2High = 0.693147180369123816490, kLn2Low = 1.90821492927058770002e-10;
  static constexpr double kLargest = 708.0;
  static constexpr double kSaturated = 40.0;
  static constexpr double kQ[] = {5.00000000000000000e-01, 1.66666666666666713e-01, 4.16666666666666713e-02,
                                  8.33333333332608381e-03, 1.38888888888837113e-03, 1.98412698750022792e-04,
                                  2.48015873256774607e-05, 2.75572551700008879e-06, 2.75572734787185824e-07,
                                  2.51053127296221029e-08, 2.09147553258932021e-09};
};

// e^y = scale * (1 + p); |y| <= kLargest.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void ReducedExp(D d, V y, V& scale, V& p) {
  using T = hn::TFromD<D>;
  using C = ExpConstants<T>;
  const hn::Rebind<typename C::Bits, D> di;
  const V shifted = hn::MulAdd(y, hn::Set(d, T(1.44269504088896340736)), hn::Set(d, C::kRound));
  const V n = hn::Sub(shifted, hn::Set(d, C::kRound));
  const auto exponent = hn::Add(hn::BitCast(di, shifted), hn::Set(di, C::kExponentBias));
  scale = hn::BitCast(d, hn::ShiftLeft<C::kMantissaBits>(exponent));
  const V r = hn::NegMulAdd(n, hn::Set(d, C::kLn2Low), hn::NegMulAdd(n, hn::Set(d, C::kLn2High), y));
  constexpr size_t kTerms = sizeof(C::kQ) / sizeof(T);
  V q = hn::Set(d, C::kQ[kTerms - 1]);
  for (size_t i = kTerms - 1; i-- > 0;) q = hn::MulAdd(q, r, hn::Set(d, C::kQ[i]));
  p = hn::MulAdd(hn::Mul(r, r), q, r);
}

// 1 / (1 + e^-x). Saturates at x = ±kLargest to the smallest normal values and to 1.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Sigmoid(D d, V x) {
  using C = ExpConstants<hn::TFromD<D>>;
  // The constant comes first: x86 min and max return their second operand when one is NaN.
  const V bounded = hn::Min(hn::Set(d, C::kLargest), hn::Max(hn::Set(d, -C::kLargest), hn::Neg(x)));
  V scale, p;
  ReducedExp(d, bounded, scale, p);
  const V one = hn::Set(d, hn::TFromD<D>(1));
  return hn::Div(one, hn::Add(one, hn::MulAdd(scale, p, scale)));
}

// tanh(x) = sign(x) (1 - e^-2|x|) / (1 + e^-2|x|), through e^-2|x| - 1 so that small x loses nothing.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Tanh(D d, V x) {
  using T = hn::TFromD<D>;
  const V y = hn::Max(hn::Set(d, -ExpConstants<T>::kSaturated), hn::Mul(hn::Set(d, T(-2)), hn::Abs(x)));
  V scale, p;
  ReducedExp(d, y, scale, p);
  const V less_one = hn::MulAdd(scale, p, hn::Sub(scale, hn::Set(d, T(1))));
  return hn::CopySign(hn::Div(less_one, hn::Add(less_one, hn::Set(d, T(2)))), x);
}

}  // namespace hippodrome::gates::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
