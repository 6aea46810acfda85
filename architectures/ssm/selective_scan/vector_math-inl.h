// exp, softplus and sigmoid for the selective-scan kernels, compiled once per instruction set (Highway). The step
// spends most of its time in exp, so its polynomial is short: 2^r = 1 + r q(r) on |r| <= 1/2, q interpolated at
// Chebyshev nodes. The form 1 + r q(r) is exact at 0 and its error vanishes with r, which keeps slowly decaying states
// (delta A near 0, error accumulating over 1 / |delta A| steps) as exact as the number format allows.

// Highway's include guard: toggled per target.
#if defined(HIPPODROME_SELECTIVE_SCAN_VECTOR_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HIPPODROME_SELECTIVE_SCAN_VECTOR_MATH_INL_H_
#undef HIPPODROME_SELECTIVE_SCAN_VECTOR_MATH_INL_H_
#else
#define HIPPODROME_SELECTIVE_SCAN_VECTOR_MATH_INL_H_
#endif

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::s6 {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

inline constexpr double kLog2E = 1.4426950408889634;
inline constexpr double kLn2 = 0.6931471805599453;

// Per format: q of 2^r = 1 + r q(r), lowest power first; Q of atanh(s) / s = 1 + w Q(w), w = s^2 <= 1/9; limits of 2^n.
template <class T>
struct Constants;
template <>
struct Constants<float> {
  // Maximum relative error 9e-9 (degree 6 in all; degree 5 would give 2e-7, too much once states accumulate it).
  static constexpr float kExp2[] = {0.6931471880262288f,   0.24022650760568126f,   0.05550357114219078f,
                                    0.009618082557277852f, 0.0013390863364671234f, 0.0001545316294512069f};
  static constexpr float kAtanh[] = {0.3333333366026371f, 0.1999985316596486f, 0.14296178997151418f,
                                     0.10853287900440187f, 0.11612164612011674f};
  static constexpr float kLowest = -126.0f, kHighest = 127.0f;
  static constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves round(x) in the low bits
  static constexpr int kMantissa = 23;
  static constexpr float kLog2ELow = 1.925962991126617e-8f;                   // log2 e - float(log2 e)
  static constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;  // n * high is exact
};
template <>
struct Constants<double> {
  // Maximum relative error 2e-17 (degree 11 in all).
  static constexpr double kExp2[] = {0.6931471805599453,    0.24022650695910097,   0.0555041086648216,
                                     0.009618129107606888,  0.0013333558146416936, 0.0001540353044173605,
                                     1.525273382983612e-05, 1.321544258792169e-06, 1.0178062445845774e-07,
                                     7.072585949269223e-09, 4.4549605981865186e-10};
  static constexpr double kAtanh[] = {0.3333333333333333,  0.20000000000000007, 0.1428571428571097,
                                      0.11111111111665993, 0.09090909043002827, 0.07692310126902081,
                                      0.06666588474569089, 0.05883998883620518, 0.05240199617182637,
                                      0.04971012448277368, 0.03167055425885123, 0.07615631309714492};
  static constexpr double kLowest = -1022.0, kHighest = 1023.0;
  static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr int kMantissa = 52;
  static constexpr double kLog2ELow = 2.035527374093103e-17;
  static constexpr double kLn2High = 6.93147180369123816490e-01, kLn2Low = 1.90821492927058770002e-10;
};

// Horner: c[0] + x c[1] + ... ; written as a recursion so that it is straight-line code at every call.
template <int I, int N, class D, class V, class T>
HWY_INLINE V horner_from(D d, V x, const T (&c)[N]) {
  if constexpr (I == N - 1) {
    (void)x;
    return hn::Set(d, c[I]);
  } else {
    return hn::MulAdd(horner_from<I + 1>(d, x, c), x, hn::Set(d, c[I]));
  }
}

// p * 2^n for integral n.
#if HWY_TARGET <= HWY_AVX3
// One instruction that also overflows to infinity and underflows to zero as exp does.
HWY_INLINE hn::Vec512<float> scale(hn::Vec512<float> p, hn::Vec512<float> n) {
  return hn::Vec512<float>{_mm512_scalef_ps(p.raw, n.raw)};
}
HWY_INLINE hn::Vec512<double> scale(hn::Vec512<double> p, hn::Vec512<double> n) {
  return hn::Vec512<double>{_mm512_scalef_pd(p.raw, n.raw)};
}
HWY_INLINE hn::Vec256<float> scale(hn::Vec256<float> p, hn::Vec256<float> n) {
  return hn::Vec256<float>{_mm256_scalef_ps(p.raw, n.raw)};
}
HWY_INLINE hn::Vec256<double> scale(hn::Vec256<double> p, hn::Vec256<double> n) {
  return hn::Vec256<double>{_mm256_scalef_pd(p.raw, n.raw)};
}
template <size_t N>
HWY_INLINE hn::Vec128<float, N> scale(hn::Vec128<float, N> p, hn::Vec128<float, N> n) {
  return hn::Vec128<float, N>{_mm_scalef_ps(p.raw, n.raw)};
}
template <size_t N>
HWY_INLINE hn::Vec128<double, N> scale(hn::Vec128<double, N> p, hn::Vec128<double, N> n) {
  return hn::Vec128<double, N>{_mm_scalef_pd(p.raw, n.raw)};
}
template <class D, class V>
HWY_INLINE V exp2_of(D d, V x) {
  using C = Constants<hn::TFromD<D>>;
  const V n = hn::Round(x);
  const V r = hn::Sub(x, n);
  return scale(hn::MulAdd(horner_from<0>(d, r, C::kExp2), r, hn::Set(d, 1)), n);
}
template <class D, class V>
HWY_INLINE V exp_of(D d, V x) {
  using T = hn::TFromD<D>;
  using C = Constants<T>;
  const V log2e = hn::Set(d, static_cast<T>(kLog2E));
  // Far beyond the format's range, yet finite: an infinite x would leave inf - inf in r.
  x = hn::Min(hn::Set(d, static_cast<T>(1e4)), hn::Max(hn::Set(d, static_cast<T>(-1e4)), x));
  const V n = hn::Round(hn::Mul(x, log2e));
  const V r = hn::MulAdd(x, hn::Set(d, C::kLog2ELow), hn::MulSub(x, log2e, n));
  return scale(hn::MulAdd(horner_from<0>(d, r, C::kExp2), r, hn::Set(d, 1)), n);
}
#else
// The power goes into the exponent bits. Exponents are clamped to normal numbers: exp saturates at 2^127 and at 2^-126
// instead of reaching infinity and zero. The order of Min and Max keeps a NaN.
template <class D, class V>
HWY_INLINE V scale_rounded(D d, V p, V rounded) {
  using C = Constants<hn::TFromD<D>>;
  const hn::RebindToSigned<D> di;
  return hn::BitCast(d, hn::Add(hn::BitCast(di, p), hn::ShiftLeft<C::kMantissa>(hn::BitCast(di, rounded))));
}
template <class D, class V>
HWY_INLINE V clamp(D d, V x, hn::TFromD<D> low, hn::TFromD<D> high) {
#if HWY_TARGET == HWY_SCALAR
  x = hn::IfThenElse(hn::Lt(x, hn::Set(d, low)), hn::Set(d, low), x);
  return hn::IfThenElse(hn::Gt(x, hn::Set(d, high)), hn::Set(d, high), x);
#else
  return hn::Min(hn::Set(d, high), hn::Max(hn::Set(d, low), x));
#endif
}
template <class D, class V>
HWY_INLINE V exp2_of(D d, V x) {
  using C = Constants<hn::TFromD<D>>;
  x = clamp(d, x, C::kLowest, C::kHighest);
  const V rounded = hn::Add(x, hn::Set(d, C::kRound));
  const V r = hn::Sub(x, hn::Sub(rounded, hn::Set(d, C::kRound)));
  return scale_rounded(d, hn::MulAdd(horner_from<0>(d, r, C::kExp2), r, hn::Set(d, 1)), rounded);
}
template <class D, class V>
HWY_INLINE V exp_of(D d, V x) {
  using T = hn::TFromD<D>;
  using C = Constants<T>;
  x = clamp(d, x, static_cast<T>(C::kLowest * kLn2), static_cast<T>(C::kHighest * kLn2));
  const V log2e = hn::Set(d, static_cast<T>(kLog2E));
  const V rounded = hn::MulAdd(x, log2e, hn::Set(d, C::kRound));
  const V n = hn::Sub(rounded, hn::Set(d, C::kRound));
  // The remainder in two steps that are exact without a fused multiply-add, too.
  const V remainder = hn::NegMulAdd(n, hn::Set(d, C::kLn2Low), hn::NegMulAdd(n, hn::Set(d, C::kLn2High), x));
  const V r = hn::Mul(remainder, log2e);
  return scale_rounded(d, hn::MulAdd(horner_from<0>(d, r, C::kExp2), r, hn::Set(d, 1)), rounded);
}
#endif

// 1 / (1 + e^-x).
template <class D, class V>
HWY_INLINE V sigmoid_of(D d, V x) {
  const V one = hn::Set(d, 1);
  return hn::Div(one, hn::Add(one, exp_of(d, hn::Neg(x))));
}

// log(1 + e^x) = max(x, 0) + log1p(e), e = e^-|x|; log1p(e) = 2 atanh(e / (2 + e)). The identity above the threshold.
template <class D, class V>
HWY_INLINE V softplus_of(D d, V x) {
  using T = hn::TFromD<D>;
  const V e = exp_of(d, hn::Neg(hn::Abs(x)));
  const V s = hn::Div(e, hn::Add(e, hn::Set(d, 2)));
  const V w = hn::Mul(s, s);
  const V twice = hn::Add(s, s);
  const V log1p = hn::MulAdd(hn::Mul(twice, w), horner_from<0>(d, w, Constants<T>::kAtanh), twice);
  const V sum = hn::Add(hn::Max(hn::Zero(d), x), log1p);
  return hn::IfThenElse(hn::Gt(x, hn::Set(d, static_cast<T>(kSoftplusThreshold))), x, sum);
}

}  // namespace HWY_NAMESPACE
}  // namespace hippodrome::s6
HWY_AFTER_NAMESPACE();
#endif
