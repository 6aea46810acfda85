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

#include "core/tensor/vector_lanes-inl.h"
#include "core/tensor/vector_math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::additive_attention_kernel::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using hippodrome::HWY_NAMESPACE::FirstLanes;
using hippodrome::HWY_NAMESPACE::vector_sigmoid;
using hippodrome::HWY_NAMESPACE::WholeLanes;

// What the rows of queries and keys hold: e^{2q} and e^{2k}, or q and k themselves.
enum class Form { kProduct, kSum };

// Rows and keys that share a pass over their features. Sums of scores fill half of the registers, since a tanh takes
// the others; those of dot products nearly all of 16.
inline constexpr size_t kTileRows = 4;
inline constexpr size_t kScoreKeys = (HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM) ? 4 : 2;
inline constexpr size_t kDotKeys = (HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM) ? 4 : 3;

// |x| of e^{2x} whose products of two stay within normal numbers.
template <class T>
inline constexpr T kLargest = std::is_same_v<T, float> ? T(20) : T(170);

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

// r of tanh(q + k) = 1 - 2r.
template <Form kForm, class D, class V>
HWY_INLINE V complement(D d, V q, V k) {
  if constexpr (kForm == Form::kProduct) return reciprocal(d, hn::MulAdd(q, k, hn::Set(d, 1)));
  return vector_sigmoid(d, hn::Mul(hn::Set(d, hn::TFromD<D>(-2)), hn::Add(q, k)));
}

// y = e^{2x}; whether every |x| is within kLargest. Outside of it, and of NaN, y means nothing.
template <class T>
HWY_INLINE bool exponentials(const T* HWY_RESTRICT x, int64_t size, T* HWY_RESTRICT y) {
  const hn::ScalableTag<T> d;
  bool bounded = true;
  hippodrome::HWY_NAMESPACE::for_each_vector<T>(0, size, [&](int64_t h, auto lanes) {
    const auto v = lanes.load(x + h);
    bounded &= hn::AllTrue(d, hn::Le(hn::Abs(v), hn::Set(d, kLargest<T>)));
    lanes.store(hippodrome::HWY_NAMESPACE::vector_math::exp_in_range(d, hn::Add(v, v)), y + h);
  });
  return bounded;
}

// Σ_h v_h r of one vector, added to sums.
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
    for (size_t j = 0; j < kKeys; ++j) sum[i][j] = hn::MulAdd(scale, complement<kForm>(d, query, key[j]), sum[i][j]);
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

// out[i kAdditiveKeys + j] = total - 2 Σ_h v_h r_ijh, the score where total = Σ_h v_h.
template <Form kForm, size_t kRows, size_t kKeys, class T>
HWY_NOINLINE void score_tile(const T* const* q, const T* const* k, const T* v, int64_t size, T total,
                             T* HWY_RESTRICT out) {
  sum_features<kRows, kKeys, T>(
      size, [&](auto lanes, int64_t h, auto& sum) { add_scores<kForm, kRows, kKeys>(lanes, q, k, v, h, sum); },
      [&](size_t i, size_t j, T sum) { out[i * kAdditiveKeys + j] = total - T(2) * sum; });
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
