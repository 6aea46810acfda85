// Forward of additive attention for one instruction set: a block of queries against blocks of keys, the softmax's
// largest score, sum and result kept up as they pass.
#if defined(HIPPODROME_ADDITIVE_ATTENTION_ATTEND_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HIPPODROME_ADDITIVE_ATTENTION_ATTEND_INL_H_
#undef HIPPODROME_ADDITIVE_ATTENTION_ATTEND_INL_H_
#else
#define HIPPODROME_ADDITIVE_ATTENTION_ATTEND_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "architectures/recurrent/additive_attention/op.h"
#include "architectures/recurrent/additive_attention/scores-inl.h"
#include "hwy/aligned_allocator.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::additive_attention_kernel::HWY_NAMESPACE {
using hippodrome::HWY_NAMESPACE::for_each_vector;
using hippodrome::HWY_NAMESPACE::vector_exp_nonpositive;

// Less than any score, and finite: so the difference of two of them is a number.
template <class T>
inline constexpr T kLowest = std::numeric_limits<T>::lowest() / 4;

// The keys and values of one row of the batch.
template <class T>
struct Source {
  const VisibleKeys* visible;
  const T* k;             // [S, H]
  const T* exponentials;  // [S, H] or null
  const T* v;             // [H]
  const T* values;        // [S, M]
  int64_t size, width;    // H, M

  Magnitude magnitude() const { return exponentials != nullptr ? visible->magnitude : Magnitude::kLarge; }
};

// Σ_h v_h, in an order of its own for every size.
template <class T>
T total(const T* v, int64_t size) {
  const hn::ScalableTag<T> d;
  auto sum = hn::Zero(d);
  for_each_vector<T>(0, size, [&](int64_t h, auto lanes) { sum = hn::Add(sum, lanes.load(v + h)); });
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

// body(the form as a constant)
template <class Body>
HWY_INLINE void with_form(Form form, const Body& body) {
  switch (form) {
    case Form::kProduct:
      return body(std::integral_constant<Form, Form::kProduct>());
    case Form::kSmallSum:
      return body(std::integral_constant<Form, Form::kSmallSum>());
    case Form::kSum:
      return body(std::integral_constant<Form, Form::kSum>());
  }
}

// Up to kAdditiveQueries queries [rows, H], one below the other, and a block of keys, as the tiles want them.
template <class T>
struct Block {
  explicit Block(int64_t size)
      : grad_v(static_cast<size_t>(size)),
        exponentials_(hwy::AllocateAligned<T>(static_cast<size_t>(kAdditiveQueries * size))) {}

  void take_queries(const T* queries, int64_t count, const Source<T>& source) {
    rows = count;
    Magnitude magnitude = source.magnitude();
    for (int64_t i = 0; i < rows && magnitude != Magnitude::kLarge; ++i) {
      const int64_t at = i * source.size;
      magnitude = std::min(magnitude, exponentials(queries + at, source.size, exponentials_.get() + at));
    }
    form = magnitude == Magnitude::kSmall      ? Form::kSmallSum
           : magnitude == Magnitude::kModerate ? Form::kProduct
                                               : Form::kSum;
    const T* from = form == Form::kProduct ? exponentials_.get() : queries;
    for (int64_t i = 0; i < rows; ++i) q[i] = from + i * source.size;
  }
  // The keys [first, first + count) of the visible ones.
  void take_keys(const Source<T>& source, int64_t first, int64_t count) {
    keys = count;
    const T* from = form == Form::kProduct ? source.exponentials : source.k;
    for (int64_t j = 0; j < keys; ++j) {
      columns[j] = source.visible->column(first + j);
      k[j] = from + columns[j] * source.size;
      values[j] = source.values + columns[j] * source.width;
    }
  }
  void score(const Source<T>& source, T total_v) {
    with_form(form,
              [&](auto f) { scores<decltype(f)::value>(q, rows, k, keys, source.v, source.size, total_v, weights); });
  }

  Form form = Form::kSum;
  int64_t rows = 0, keys = 0;
  const T* q[kAdditiveQueries];
  const T *k[kAdditiveKeys], *values[kAdditiveKeys];
  int64_t columns[kAdditiveKeys];
  HWY_ALIGN T weights[kAdditiveQueries * kAdditiveKeys];
  std::vector<T> grad_v;  // [H]: backward's sums over the block

 private:
  hwy::AlignedFreeUniquePtr<T[]> exponentials_;
};

// One row of scores [kAdditiveKeys], of which `keys` count -> e^{score - largest}, the others 0; largest and sum are
// kept up. Returns the factor that shrinks what was summed before.
template <class T>
HWY_INLINE T soften(T* HWY_RESTRICT score, int64_t keys, T& largest, T& sum) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  std::fill(score + keys, score + kAdditiveKeys, -std::numeric_limits<T>::infinity());
  auto highest = hn::Set(d, largest);
  for (int64_t j = 0; j < kAdditiveKeys; j += lanes) highest = hn::Max(highest, hn::Load(d, score + j));
  highest = hn::MaxOfLanes(d, highest);
  const T shrink = hn::GetLane(vector_exp_nonpositive(d, hn::Sub(hn::Set(d, largest), highest)));
  auto sums = hn::Zero(d);
  for (int64_t j = 0; j < kAdditiveKeys; j += lanes) {
    const auto e = vector_exp_nonpositive(d, hn::Sub(hn::Load(d, score + j), highest));
    hn::Store(e, d, score + j);
    sums = hn::Add(sums, e);
  }
  largest = hn::GetLane(highest);
  sum = sum * shrink + hn::GetLane(hn::SumOfLanes(d, sums));
  return shrink;
}

// result[i] = shrink[i] result[i] + Σ_j weight[i][j] row[j], for kRows results of `width` numbers, one below the other.
template <size_t kRows, class T>
HWY_NOINLINE void add_weighted(const T* HWY_RESTRICT weights, const T* shrink, const T* const* rows, int64_t count,
                               int64_t width, T* HWY_RESTRICT result) {
  const hn::ScalableTag<T> d;
  using V = hn::VFromD<decltype(d)>;
  const auto pass = [&](auto lanes, int64_t m, auto vectors) {
    constexpr size_t kVectors = decltype(vectors)::value;
    const auto step = static_cast<int64_t>(hn::Lanes(d));
    V sum[kRows][kVectors];
#pragma GCC unroll 4
    for (size_t i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
      for (size_t n = 0; n < kVectors; ++n) {
        sum[i][n] = hn::Mul(hn::Set(d, shrink[i]), lanes.load(result + i * width + m + n * step));
      }
    }
    for (int64_t j = 0; j < count; ++j) {
      V value[kVectors];
#pragma GCC unroll 2
      for (size_t n = 0; n < kVectors; ++n) value[n] = lanes.load(rows[j] + m + n * step);
#pragma GCC unroll 4
      for (size_t i = 0; i < kRows; ++i) {
        const V weight = hn::Set(d, weights[i * kAdditiveKeys + j]);
#pragma GCC unroll 2
        for (size_t n = 0; n < kVectors; ++n) sum[i][n] = hn::MulAdd(weight, value[n], sum[i][n]);
      }
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
      for (size_t n = 0; n < kVectors; ++n) lanes.store(sum[i][n], result + i * width + m + n * step);
    }
  };
  const WholeLanes<T> whole;
  int64_t m = 0;
  for (; m + 2 * whole.count() <= width; m += 2 * whole.count()) pass(whole, m, std::integral_constant<size_t, 2>());
  for (; m + whole.count() <= width; m += whole.count()) pass(whole, m, std::integral_constant<size_t, 1>());
  if (m < width) pass(FirstLanes<T>(width - m), m, std::integral_constant<size_t, 1>());
}

// Context [rows, M] and lse [rows] of the block's queries over all visible keys.
template <class T>
void attend(const Source<T>& source, Block<T>& w, T total_v, T* HWY_RESTRICT context, T* HWY_RESTRICT lse) {
  T largest[kAdditiveQueries], sum[kAdditiveQueries], shrink[kAdditiveQueries];
  std::fill_n(context, w.rows * source.width, T(0));
  std::fill_n(largest, kAdditiveQueries, kLowest<T>);
  std::fill_n(sum, kAdditiveQueries, T(0));
  const int64_t count = source.visible->count();
  for (int64_t first = 0; first < count; first += kAdditiveKeys) {
    w.take_keys(source, first, std::min(kAdditiveKeys, count - first));
    w.score(source, total_v);
    for (int64_t i = 0; i < w.rows; ++i) shrink[i] = soften(w.weights + i * kAdditiveKeys, w.keys, largest[i], sum[i]);
    int64_t i = 0;
    for (; i + static_cast<int64_t>(kTileRows) <= w.rows; i += kTileRows) {
      add_weighted<kTileRows>(w.weights + i * kAdditiveKeys, shrink + i, w.values, w.keys, source.width,
                              context + i * source.width);
    }
    for (; i < w.rows; ++i) {
      add_weighted<1>(w.weights + i * kAdditiveKeys, shrink + i, w.values, w.keys, source.width,
                      context + i * source.width);
    }
  }
  for (int64_t i = 0; i < w.rows; ++i) {
    const T scale = count > 0 ? T(1) / sum[i] : T(0);
    for (int64_t m = 0; m < source.width; ++m) context[i * source.width + m] *= scale;
    lse[i] = count > 0 ? largest[i] + std::log(sum[i]) : T(0);
  }
}

// The weights p [rows, S] of the block's queries.
template <class T>
void weigh(const Source<T>& source, Block<T>& w, T total_v, int64_t keys, T* HWY_RESTRICT out, T* HWY_RESTRICT lse) {
  T largest[kAdditiveQueries], sum[kAdditiveQueries];
  std::fill_n(out, w.rows * keys, T(0));
  std::fill_n(largest, kAdditiveQueries, kLowest<T>);
  std::fill_n(sum, kAdditiveQueries, T(0));
  const int64_t count = source.visible->count();
  for (int64_t first = 0; first < count; first += kAdditiveKeys) {
    w.take_keys(source, first, std::min(kAdditiveKeys, count - first));
    w.score(source, total_v);
    for (int64_t i = 0; i < w.rows; ++i) {
      T* score = w.weights + i * kAdditiveKeys;
      for (int64_t j = 0; j < w.keys; ++j) out[i * keys + w.columns[j]] = score[j];
      soften(score, w.keys, largest[i], sum[i]);
    }
  }
  for (int64_t i = 0; i < w.rows; ++i) {
    lse[i] = count > 0 ? largest[i] + std::log(sum[i]) : T(0);
    for (int64_t j = 0; j < count; ++j) {
      T& weight = out[i * keys + source.visible->column(j)];
      weight = std::exp(weight - lse[i]);
    }
  }
}

}  // namespace hippodrome::additive_attention_kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
