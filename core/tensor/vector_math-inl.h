// Elementary functions for Highway kernels, in float and double. Include after hwy/highway.h in files compiled through
// hwy/foreach_target.h: the contents repeat per instruction set.
//
// All of them stand on one power, 2^(n + r) = 2^n (1 + r q(r)) with n an integer and |r| <= 1/2. q is interpolated at
// Chebyshev nodes of just that range (a polynomial for another one, e.g. [0, 1), would cost four digits here). The form
// 1 + r q(r) is exact at 0 and its error vanishes with r, which keeps slowly decaying states (e^x near x = 0, error
// accumulating over 1 / |x| steps) and tanh near 0 as exact as the number format allows. NaN stays NaN everywhere.

#if defined(HIPPODROME_CORE_TENSOR_VECTOR_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HIPPODROME_CORE_TENSOR_VECTOR_MATH_INL_H_
#undef HIPPODROME_CORE_TENSOR_VECTOR_MATH_INL_H_
#else
#define HIPPODROME_CORE_TENSOR_VECTOR_MATH_INL_H_
#endif

#include <array>
#include <cstddef>
#include <numbers>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

namespace vector_math {

inline constexpr double kLog2E = 1.4426950408889634;

// q of e^r = 1 + r q(r), |r| <= ln2 / 2, from that of 2^r.
template <class T, size_t N>
constexpr std::array<T, N> natural(const T (&exp2)[N]) {
  std::array<T, N> q{};
  long double power = 1;
  for (size_t i = 0; i < N; ++i)
    q[i] = static_cast<T>(static_cast<long double>(exp2[i]) * (power *= std::numbers::log2e_v<long double>));
  q[0] = 1;
  return q;
}

// Per format: q of 2^r, lowest power first; Q of atanh(s) / s = 1 + w Q(w), w = s^2 <= 1/9; limits of the result.
template <class T>
struct Constants;
template <>
struct Constants<float> {
  // Maximum relative error 9e-9 (degree 6 in all; degree 5 would give 2e-7, too much once states accumulate it).
  static constexpr float kExp2[] = {0.6931471880262288f,   0.24022650760568126f,   0.05550357114219078f,
                                    0.009618082557277852f, 0.0013390863364671234f, 0.0001545316294512069f};
  static constexpr float kAtanh[] = {0.3333333366026371f, 0.1999985316596486f, 0.14296178997151418f,
                                     0.10853287900440187f, 0.11612164612011674f};
  static constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves round(x) in the low bits
  static constexpr int kMantissa = 23;
  static constexpr float kLog2ELow = 1.925962991126617e-8f;                   // log2 e - float(log2 e)
  static constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;  // n * high is exact
  static constexpr float kLowest = -126.0f, kHighest = 127.99993f;            // of exp2: normal numbers
  static constexpr float kLowestExp = -87.33654f, kHighestExp = 88.7228f;     // of exp
  static constexpr float kSaturated = 20.0f;                                  // 1 - tanh(10) is far below half an ulp
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
  static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr int kMantissa = 52;
  static constexpr double kLog2ELow = 2.035527374093103e-17;
  static constexpr double kLn2High = 6.93147180369123816490e-01, kLn2Low = 1.90821492927058770002e-10;
  static constexpr double kLowest = -1022.0, kHighest = 1023.99;
  static constexpr double kLowestExp = -708.39, kHighestExp = 709.77;
  static constexpr double kSaturated = 40.0;
};

// Horner: c[0] + x c[1] + ... ; written as a recursion so that it is straight-line code at every call.
template <size_t I = 0, class D, class V, class Coefficients>
HWY_INLINE V horner(D d, V x, const Coefficients& c) {
  if constexpr (I + 1 == sizeof(c) / sizeof(c[0])) {
    (void)x;
    return hn::Set(d, c[I]);
  } else {
    return hn::MulAdd(horner<I + 1>(d, x, c), x, hn::Set(d, c[I]));
  }
}

// x within limits, where NaN stays NaN: on x86 min and max return their second operand when one is NaN, on ARM the NaN.
template <class D, class V>
HWY_INLINE V at_least(D d, V x, hn::TFromD<D> low) {
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
  return hn::IfThenElse(hn::Lt(x, hn::Set(d, low)), hn::Set(d, low), x);
#else
  return hn::Max(hn::Set(d, low), x);
#endif
}
template <class D, class V>
HWY_INLINE V clamp(D d, V x, hn::TFromD<D> low, hn::TFromD<D> high) {
  x = at_least(d, x, low);
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
  return hn::IfThenElse(hn::Gt(x, hn::Set(d, high)), hn::Set(d, high), x);
#else
  return hn::Min(hn::Set(d, high), x);
#endif
}

// Below, split: 2^x = 2^n 2^r; split_exp: e^x = 2^n (1 + r kSplitExp(r)). Both give n in the form that `scaled` takes,
// which is p 2^n for p in [½, 2].
#if HWY_TARGET <= HWY_AVX3
// One instruction, which also overflows to infinity and underflows to zero as exp does.
HWY_INLINE hn::Vec512<float> scaled(hn::Vec512<float> p, hn::Vec512<float> n) {
  return hn::Vec512<float>{_mm512_scalef_ps(p.raw, n.raw)};
}
HWY_INLINE hn::Vec512<double> scaled(hn::Vec512<double> p, hn::Vec512<double> n) {
  return hn::Vec512<double>{_mm512_scalef_pd(p.raw, n.raw)};
}
HWY_INLINE hn::Vec256<float> scaled(hn::Vec256<float> p, hn::Vec256<float> n) {
  return hn::Vec256<float>{_mm256_scalef_ps(p.raw, n.raw)};
}
HWY_INLINE hn::Vec256<double> scaled(hn::Vec256<double> p, hn::Vec256<double> n) {
  return hn::Vec256<double>{_mm256_scalef_pd(p.raw, n.raw)};
}
template <size_t N>
HWY_INLINE hn::Vec128<float, N> scaled(hn::Vec128<float, N> p, hn::Vec128<float, N> n) {
  return hn::Vec128<float, N>{_mm_scalef_ps(p.raw, n.raw)};
}
template <size_t N>
HWY_INLINE hn::Vec128<double, N> scaled(hn::Vec128<double, N> p, hn::Vec128<double, N> n) {
  return hn::Vec128<double, N>{_mm_scalef_pd(p.raw, n.raw)};
}
template <class D, class V>
HWY_INLINE V split(D, V x, V& r) {
  const V n = hn::Round(x);
  r = hn::Sub(x, n);
  return n;
}
// e^x = 2^n 2^r.
template <class T>
constexpr auto kSplitExp = std::to_array(Constants<T>::kExp2);
template <class D, class V>
HWY_INLINE V split_exp(D d, V x, V& r) {
  using T = hn::TFromD<D>;
  const V log2e = hn::Set(d, static_cast<T>(kLog2E));
  const V n = hn::Round(hn::Mul(x, log2e));
  r = hn::MulAdd(x, hn::Set(d, Constants<T>::kLog2ELow), hn::MulSub(x, log2e, n));
  return n;
}
#else
// The power goes into the exponent bits.
template <class V>
HWY_INLINE V scaled(V p, V rounded) {
  const hn::DFromV<V> d;
  const hn::RebindToSigned<decltype(d)> di;
  constexpr int kMantissa = Constants<hn::TFromV<V>>::kMantissa;
  return hn::BitCast(d, hn::Add(hn::BitCast(di, p), hn::ShiftLeft<kMantissa>(hn::BitCast(di, rounded))));
}
template <class D, class V>
HWY_INLINE V split(D d, V x, V& r) {
  using C = Constants<hn::TFromD<D>>;
  x = clamp(d, x, C::kLowest, C::kHighest);
  const V rounded = hn::Add(x, hn::Set(d, C::kRound));
  r = hn::Sub(x, hn::Sub(rounded, hn::Set(d, C::kRound)));
  return rounded;
}
// e^x = 2^n e^r.
template <class T>
constexpr auto kSplitExp = natural(Constants<T>::kExp2);
template <class D, class V>
HWY_INLINE V split_exp(D d, V x, V& r) {
  using T = hn::TFromD<D>;
  using C = Constants<T>;
  const V log2e = hn::Set(d, static_cast<T>(kLog2E));
  const V rounded = hn::MulAdd(x, log2e, hn::Set(d, C::kRound));
  const V n = hn::Sub(rounded, hn::Set(d, C::kRound));
  // The remainder in two steps that are exact without a fused multiply-add, too.
  r = hn::NegMulAdd(n, hn::Set(d, C::kLn2Low), hn::NegMulAdd(n, hn::Set(d, C::kLn2High), x));
  return rounded;
}
#endif

// e^x for |x| within the logarithms of the normal numbers; anything else, but for NaN, is for the caller to replace.
template <class D, class V>
HWY_INLINE V exp_in_range(D d, V x) {
  V r;
  const V n = split_exp(d, x, r);
  return scaled(hn::MulAdd(horner(d, r, kSplitExp<hn::TFromD<D>>), r, hn::Set(d, 1)), n);
}

}  // namespace vector_math

// 2^x, the cheapest of all. Outside the normal numbers' range 0 and infinity with AVX-512, the nearest normal power
// elsewhere. Relative error at most 1e-7 (float), 3e-16 (double).
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V vector_exp2(D d, V x) {
  V r;
  const V n = vector_math::split(d, x, r);
  const V p = hn::MulAdd(vector_math::horner(d, r, vector_math::Constants<hn::TFromD<D>>::kExp2), r, hn::Set(d, 1));
  return vector_math::scaled(p, n);
}

// e^x for x <= 0 (up to 88.7 or 709.7). Below the smallest normal number's logarithm the result is 0, also for x =
// -1e38 and minus infinity. Relative error at most 1.5e-7 (float), 4e-16 (double).
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V vector_exp_nonpositive(D d, V x) {
  const V low = hn::Set(d, vector_math::Constants<hn::TFromD<D>>::kLowestExp);
  return hn::IfThenZeroElse(hn::Lt(x, low), vector_math::exp_in_range(d, x));
}

// e^x for every x: as above, and infinity above 88.7228 or 709.77.
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V vector_exp(D d, V x) {
  const V high = hn::Set(d, vector_math::Constants<hn::TFromD<D>>::kHighestExp);
  return hn::IfThenElse(hn::Gt(x, high), hn::Inf(d), vector_exp_nonpositive(d, x));
}

// 1 / (1 + e^-x), without overflow at either end: it does not fall below 2.9e-39 or 5.6e-309, where its relative error
// at most 3e-7 (float), 8e-16 (double) ends.
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V vector_sigmoid(D d, V x) {
  using C = vector_math::Constants<hn::TFromD<D>>;
  const V one = hn::Set(d, 1);
  const V e = vector_math::exp_in_range(d, vector_math::clamp(d, hn::Neg(x), C::kLowestExp, C::kHighestExp));
  return hn::Div(one, hn::Add(one, e));
}

// x sigmoid(x), and 0 where the sigmoid is as small as it gets.
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V vector_silu(D d, V x) {
  const V low = hn::Set(d, -vector_math::Constants<hn::TFromD<D>>::kHighestExp);
  return hn::IfThenZeroElse(hn::Lt(x, low), hn::Mul(x, vector_sigmoid(d, x)));
}

// tanh(x) = sign(x) (1 - e^-2|x|) / (1 + e^-2|x|), through e^-2|x| - 1 so that small x loses nothing. Relative error at
// most 3e-7 (float), 1e-15 (double).
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V vector_tanh(D d, V x) {
  using T = hn::TFromD<D>;
  const V one = hn::Set(d, 1);
  const V y = vector_math::at_least(d, hn::Mul(hn::Set(d, T(-2)), hn::Abs(x)), -vector_math::Constants<T>::kSaturated);
  V r;
  const V n = vector_math::split_exp(d, y, r);
  const V scale = vector_math::scaled(one, n);
  const V p = hn::Mul(r, vector_math::horner(d, r, vector_math::kSplitExp<T>));  // e^y = scale (1 + p)
  const V less_one = hn::MulAdd(scale, p, hn::Sub(scale, one));
  return hn::CopySign(hn::Div(less_one, hn::Add(less_one, hn::Set(d, T(2)))), x);
}

// log(1 + e^x) = max(x, 0) + log1p(e), e = e^-|x|; log1p(e) = 2 atanh(e / (2 + e)). x itself above the threshold.
// Relative error at most 3e-7 (float), 8e-16 (double).
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V vector_softplus(D d, V x, hn::TFromD<D> threshold) {
  using C = vector_math::Constants<hn::TFromD<D>>;
  const V e = vector_math::exp_in_range(d, vector_math::at_least(d, hn::Neg(hn::Abs(x)), C::kLowestExp));
  const V s = hn::Div(e, hn::Add(e, hn::Set(d, 2)));
  const V w = hn::Mul(s, s);
  const V twice = hn::Add(s, s);
  const V log1p = hn::MulAdd(hn::Mul(twice, w), vector_math::horner(d, w, C::kAtanh), twice);
  const V sum = hn::Add(hn::Max(hn::Zero(d), x), log1p);
  return hn::IfThenElse(hn::Gt(x, hn::Set(d, threshold)), x, sum);
}

}  // namespace HWY_NAMESPACE
}  // namespace hippodrome
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
