// Elementwise functions for Highway kernels, in float (own polynomial) and double (hwy/contrib/math).
// Include after hwy/highway.h in files compiled through hwy/foreach_target.h: the contents repeat per instruction set.

#if defined(HIPPODROME_CORE_TENSOR_VECTOR_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HIPPODROME_CORE_TENSOR_VECTOR_MATH_INL_H_
#undef HIPPODROME_CORE_TENSOR_VECTOR_MATH_INL_H_
#else
#define HIPPODROME_CORE_TENSOR_VECTOR_MATH_INL_H_
#endif

#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// e^r for |r| <= ln2/2, relative error 4e-9 before rounding: 1 + r + r^2 (c2 + ... + c6 r^4), minimax on exactly that
// range (Remez, relative error). Coefficients for another range, e.g. [0, 1), would cost four digits here.
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V exp_reduced(D d, V r) {
  V q = hn::Set(d, 0.0013814540579915047f);
  q = hn::MulAdd(q, r, hn::Set(d, 0.00836874544620514f));
  q = hn::MulAdd(q, r, hn::Set(d, 0.04166838899254799f));
  q = hn::MulAdd(q, r, hn::Set(d, 0.1666652113199234f));
  q = hn::MulAdd(q, r, hn::Set(d, 0.4999999403953552f));
  q = hn::MulAdd(q, r, hn::Set(d, 1.0f));
  return hn::MulAdd(q, r, hn::Set(d, 1.0f));
}

// Splits x = n ln2 + r, |r| <= ln2/2 (a little over, by rounding). `biased` holds n + 127 in the low bits of a float's
// pattern: adding 1.5 * 2^23 rounds to an integer and leaves it there, so that a shift by 23 makes it the pattern of
// 2^n.
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V exp_split(D d, V x, V& biased) {
  const V magic = hn::Set(d, 12582912.0f + 127.0f);
  biased = hn::MulAdd(x, hn::Set(d, 1.44269504088896341f), magic);
  const V n = hn::Sub(biased, magic);
  // ln2 in two parts: the first has few enough bits that n times it is exact.
  V r = hn::NegMulAdd(n, hn::Set(d, 0.693145751953125f), x);
  return hn::NegMulAdd(n, hn::Set(d, 1.428606765330187e-6f), r);
}

// e^x for x <= 0 (up to x = 88): the cheap form. Below the smallest normal number's logarithm the result is 0, also for
// x = -1e38 and minus infinity. NaN stays NaN. Relative error at most 2e-7.
template <class D, class V = hn::VFromD<D>>
requires(sizeof(hn::TFromD<D>) == 4) HWY_INLINE V vector_exp_nonpositive(D d, V x) {
  const hn::RebindToSigned<D> di;
  V biased;
  const V p = exp_reduced(d, exp_split(d, x, biased));
  const V y = hn::Mul(p, hn::BitCast(d, hn::ShiftLeft<23>(hn::BitCast(di, biased))));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -87.33654f)), y);
}

// Double: Highway's own, kept within the arguments where its range reduction is exact.
template <class D, class V = hn::VFromD<D>>
requires(sizeof(hn::TFromD<D>) == 8) HWY_INLINE V vector_exp_nonpositive(D d, V x) {
  const V low = hn::Set(d, -708.0);
  const V y = hn::IfThenZeroElse(hn::Lt(x, low), hn::Exp(d, hn::Max(x, low)));
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

// e^x for every x: 0 below the normal range, infinity above the largest finite logarithm, NaN for NaN. Relative error
// at most 2e-7 (float).
template <class D, class V = hn::VFromD<D>>
requires(sizeof(hn::TFromD<D>) == 4) HWY_INLINE V vector_exp(D d, V x) {
  const hn::RebindToSigned<D> di;
  V biased;
  // Doubling at the end keeps the scale of n = 128 representable.
  const V p = exp_reduced(d, exp_split(d, x, biased));
  const auto half_scale = hn::Sub(hn::ShiftLeft<23>(hn::BitCast(di, biased)), hn::Set(di, 1 << 23));
  const V half = hn::Mul(p, hn::BitCast(d, half_scale));
  const V y = hn::IfThenElse(hn::Lt(x, hn::Set(d, -86.6f)), vector_exp_nonpositive(d, x), hn::Add(half, half));
  return hn::IfThenElse(hn::Gt(x, hn::Set(d, 88.7228394f)), hn::Inf(d), y);
}

template <class D, class V = hn::VFromD<D>>
requires(sizeof(hn::TFromD<D>) == 8) HWY_INLINE V vector_exp(D d, V x) {
  const V high = hn::Set(d, 706.0);
  const V y = hn::IfThenElse(hn::Gt(x, high), hn::Inf(d), vector_exp_nonpositive(d, hn::Min(x, high)));
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

// 1 / (1 + e^-x), without overflow at either end.
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V vector_sigmoid(D d, V x) {
  const V one = hn::Set(d, 1);
  const V z = vector_exp_nonpositive(d, hn::Neg(hn::Abs(x)));
  return hn::Div(hn::IfThenElse(hn::Lt(x, hn::Zero(d)), z, one), hn::Add(one, z));
}

// x sigmoid(x).
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V vector_silu(D d, V x) {
  return hn::Mul(x, vector_sigmoid(d, x));
}

}  // namespace HWY_NAMESPACE
}  // namespace hippodrome
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
