// Products of a few queries with a few keys, for one instruction set: the additive scores, and plain dot products.
// Vectors run along the features, so that rows lie in memory as they came and one query is as good as many.
#if defined(HIPPODROME_ADDITIVE_ATTENTION_SCORES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HIPPODROME_ADDITIVE_ATTENTION_SCORES_INL_H_
#undef HIPPODROME_ADDITIVE_ATTENTION_SCORES_INL_H_
#else
#define HIPPODROME_ADDITIVE_ATTENTION_SCORES_INL_H_
#endif

#include <cstdint>
#include <type_traits>

#include "architectures/recurrent/additive_attention/op.h"
#include "core/tensor/vector_lanes-inl.h"
#include "core/tensor/vector_math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::additive_attention_kernel::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using hippodrome::HWY_NAMESPACE::FirstLanes;
using hippodrome::HWY_NAMESPACE::vector_tanh;
using hippodrome::HWY_NAMESPACE::WholeLanes;

// How a tanh is computed: from rows that hold e^{2q} and e^{2k}, as 1 - 2r; or from the rows themselves, by a
// polynomial for small sums (1 - 2r would keep no more than 1e-7 of a tanh of any size) or, for large ones, by the
// function itself.
enum class Form { kProduct, kSmallSum, kSum };

// Rows and keys that share a pass over their features. Sums of scores fill half of the registers, since a tanh takes
// the others; those of dot products nearly all of 16.
inline constexpr size_t kTileRows = 4;
inline constexpr size_t kScoreKeys = (HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM) ? 4 : 2;
inline constexpr size_t kDotKeys = (HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM) ? 4 : 3;

// |x| of e^{2x} whose products of two stay within normal numbers.
template <class T>
inline constexpr T kLargest = std::is_same_v<T, float> ? T(20) : T(170);
// |x| whose sums of two are small. float64 has digits to spare.
template <class T>
inline constexpr T kSmallest = std::is_same_v<T, float> ? T(0.25) : T(0);

// 1 / x for x ≥ 1, to the format's precision: an estimate of 12 bits or more and a step of Newton where there is one.
template <class D, class V>
HWY_INLINE V reciprocal(D d, V x) {
#if HWY_TARGET <= HWY_SSE4
  if constexpr (std::is_same_v<hn::TFromD<D>, float>) {
    const V estimate = hn::ApproximateReciprocal(x);
    return hn::MulAdd(hn::NegMulAdd(x, estimate, hn::Set(d, 1)), estimate, estimate);
  }
#endif
  return hn::Div(hn::Set(d, 1), x);
}

// tanh(s) for |s| ≤ 0.5: s (1 + w P(w)), w = s², P interpolated at Chebyshev nodes. Relative error at most 6e-8.
template <class D, class V>
HWY_INLINE V small_tanh(D d, V s) {
  using T = hn::TFromD<D>;
  const V w = hn::Mul(s, s);
  V p = hn::MulAdd(hn::Set(d, T(0.01798738859803959)), w, hn::Set(d, T(-0.05338668481638396)));
  p = hn::MulAdd(p, w, hn::Set(d, T(0.13330473273673057)));
  p = hn::MulAdd(p, w, hn::Set(d, T(-0.3333331105076124)));
  return hn::MulAdd(hn::Mul(s, w), p, s);
}

// u of tanh(q + k) = kOffset + kFactor u.
template <Form kForm, class D, class V>
HWY_INLINE V squash(D d, V q, V k) {
  if constexpr (kForm == Form::kProduct) return reciprocal(d, hn::MulAdd(q, k, hn::Set(d, 1)));
  if constexpr (kForm == Form::kSmallSum) return small_tanh(d, hn::Add(q, k));
  return vector_tanh(d, hn::Add(q, k));
}
template <Form kForm, class T>
inline constexpr T kOffset = kForm == Form::kProduct ? T(1) : T(0);
template <Form kForm, class T>
inline constexpr T kFactor = kForm == Form::kProduct ? T(-2) : T(1);

// (1 - tanh²) / 4
template <Form kForm, class D, class V>
HWY_INLINE V slope(D d, V u) {
  if constexpr (kForm == Form::kProduct) return hn::NegMulAdd(u, u, u);
  const V quarter = hn::Set(d, hn::TFromD<D>(0.25));
  return hn::NegMulAdd(hn::Mul(quarter, u), u, quarter);
}

// y = e^{2x} and how large x is. Where that is kLarge, and of NaN, y means nothing.
template <class T>
HWY_INLINE Magnitude exponentials(const T* HWY_RESTRICT x, int64_t size, T* HWY_RESTRICT y) {
  const hn::ScalableTag<T> d;
  bool small = true, moderate = true;
  hippodrome::HWY_NAMESPACE::for_each_vector<T>(0, size, [&](int64_t h, auto lanes) {
    const auto v = lanes.load(x + h), absolute = hn::Abs(v);
    small &= hn::AllTrue(d, hn::Le(absolute, hn::Set(d, kSmallest<T>)));
    moderate &= hn::AllTrue(d, hn::Le(absolute, hn::Set(d, kLargest<T>)));
    lanes.store(hippodrome::HWY_NAMESPACE::vector_math::exp_in_range(d, hn::Add(v, v)), y + h);
  });
  return small ? Magnitude::kSmall : moderate ? Magnitude::kModerate : Magnitude::kLarge;
}

// Σ_h v_h u of one vector, added to sums.
template <Form kForm, size_t kRows, size_t kKeys, class Lanes, class T, class V>
HWY_INLINE void add_scores(Lanes lanes, const T* const* q, const T* const* k, const T* v, int64_t h,
                           V (&sum)[kRows][kKeys]) {
  const typename Lanes::D d;
  const V scale = lanes.load(v + h);
  V key[kKeys];
#pragma GCC unroll 4
  for (size_t j = 0; j < kKeys; ++j) key[j] = lanes.load(k[j] + h);
#pragma GCC unroll 4
  for (size_t i = 0; i < kRows; ++i) {
    const V query = lanes.load(q[i] + h);
#pragma GCC unroll 4
    for (size_t j = 0; j < kKeys; ++j) sum[i][j] = hn::MulAdd(scale, squash<kForm>(d, query, key[j]), sum[i][j]);
  }
}

// Σ_h q_h k_h of one vector, added to sums.
template <size_t kRows, size_t kKeys, class Lanes, class T, class V>
HWY_INLINE void add_dots(Lanes lanes, const T* const* q, const T* const* k, int64_t h, V (&sum)[kRows][kKeys]) {
  V key[kKeys];
#pragma GCC unroll 4
  for (size_t j = 0; j < kKeys; ++j) key[j] = lanes.load(k[j] + h);
#pragma GCC unroll 4
  for (size_t i = 0; i < kRows; ++i) {
    const V query = lanes.load(q[i] + h);
#pragma GCC unroll 4
    for (size_t j = 0; j < kKeys; ++j) sum[i][j] = hn::MulAdd(query, key[j], sum[i][j]);
  }
}

// kRows × kKeys sums over `size` features by add(lanes, h, sums), written to out(i, j, sum).
template <size_t kRows, size_t kKeys, class T, class Add, class Out>
HWY_INLINE void sum_features(int64_t size, const Add& add, const Out& out) {
  const hn::ScalableTag<T> d;
  hn::VFromD<decltype(d)> sum[kRows][kKeys];
#pragma GCC unroll 4
  for (size_t i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (size_t j = 0; j < kKeys; ++j) sum[i][j] = hn::Zero(d);
  }
  const WholeLanes<T> whole;
  int64_t h = 0;
  for (; h + whole.count() <= size; h += whole.count()) add(whole, h, sum);
  if (h < size) add(FirstLanes<T>(size - h), h, sum);
#pragma GCC unroll 4
  for (size_t i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (size_t j = 0; j < kKeys; ++j) out(i, j, hn::GetLane(hn::SumOfLanes(d, sum[i][j])));
  }
}

// out[i kAdditiveKeys + j] = Σ_h v_h tanh(q_ih + k_jh), total being Σ_h v_h.
template <Form kForm, size_t kRows, size_t kKeys, class T>
HWY_NOINLINE void score_tile(const T* const* q, const T* const* k, const T* v, int64_t size, T total,
                             T* HWY_RESTRICT out) {
  sum_features<kRows, kKeys, T>(
      size, [&](auto lanes, int64_t h, auto& sum) { add_scores<kForm, kRows, kKeys>(lanes, q, k, v, h, sum); },
      [&](size_t i, size_t j, T sum) {
        out[i * kAdditiveKeys + j] = kOffset<kForm, T> * total + kFactor<kForm, T> * sum;
      });
}

// out[i kAdditiveKeys + j] = Σ_h q_ih k_jh
template <size_t kRows, size_t kKeys, class T>
HWY_NOINLINE void dot_tile(const T* const* q, const T* const* k, int64_t size, T* HWY_RESTRICT out) {
  sum_features<kRows, kKeys, T>(
      size, [&](auto lanes, int64_t h, auto& sum) { add_dots<kRows, kKeys>(lanes, q, k, h, sum); },
      [&](size_t i, size_t j, T sum) { out[i * kAdditiveKeys + j] = sum; });
}

// Calls tile(first row, first key, rows, keys) over a block, the latter two as constants. A pair's sum does not depend
// on the tile that it is in.
template <size_t kKeys, class Tile>
HWY_INLINE void for_each_tile(int64_t rows, int64_t keys, const Tile& tile) {
  const auto column = [&](int64_t j, auto keys_together) {
    int64_t i = 0;
    for (; i + static_cast<int64_t>(kTileRows) <= rows; i += kTileRows) {
      tile(i, j, std::integral_constant<size_t, kTileRows>(), keys_together);
    }
    for (; i < rows; ++i) tile(i, j, std::integral_constant<size_t, 1>(), keys_together);
  };
  int64_t j = 0;
  for (; j + static_cast<int64_t>(kKeys) <= keys; j += kKeys) column(j, std::integral_constant<size_t, kKeys>());
  for (; j < keys; ++j) column(j, std::integral_constant<size_t, 1>());
}

// Scores of a block: out [rows, kAdditiveKeys].
template <Form kForm, class T>
void scores(const T* const* q, int64_t rows, const T* const* k, int64_t keys, const T* v, int64_t size, T total,
            T* out) {
  for_each_tile<kScoreKeys>(rows, keys, [&](int64_t i, int64_t j, auto tile_rows, auto tile_keys) {
    score_tile<kForm, decltype(tile_rows)::value, decltype(tile_keys)::value>(q + i, k + j, v, size, total,
                                                                              out + i * kAdditiveKeys + j);
  });
}

// Dot products of a block, likewise.
template <class T>
void dots(const T* const* q, int64_t rows, const T* const* k, int64_t keys, int64_t size, T* out) {
  for_each_tile<kDotKeys>(rows, keys, [&](int64_t i, int64_t j, auto tile_rows, auto tile_keys) {
    dot_tile<decltype(tile_rows)::value, decltype(tile_keys)::value>(q + i, k + j, size, out + i * kAdditiveKeys + j);
  });
}

}  // namespace hippodrome::additive_attention_kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
