// Forward of causal attention for one instruction set: a block of queries against blocks of keys, the softmax's largest
// score, sum and result kept up as they pass.
#if defined(HIPPODROME_CAUSAL_ATTENTION_FORWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HIPPODROME_CAUSAL_ATTENTION_FORWARD_INL_H_
#undef HIPPODROME_CAUSAL_ATTENTION_FORWARD_INL_H_
#else
#define HIPPODROME_CAUSAL_ATTENTION_FORWARD_INL_H_
#endif

#include <cmath>

#include "architectures/transformer/causal_attention/blocks-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::causal_attention_kernel::HWY_NAMESPACE {

// Less than any score, and finite: so the difference of two of them is a number.
template <class T>
inline constexpr T kLowest = std::numeric_limits<T>::lowest() / 4;

template <class T>
struct ForwardBlock {
  explicit ForwardBlock(int64_t size)
      : width(padded(size)), workspace((kQueries + 2 * kKeys) * width + 2 * width * kQueries + (kKeys + 3) * kQueries) {
    for (T** array : {&rows, &queries, &result}) *array = workspace.take(width * kQueries);
    for (T** array : {&keys, &values}) *array = workspace.take(width * kKeys);
    scores = workspace.take(kKeys * kQueries);
    for (T** array : {&largest, &sum, &shrink}) *array = workspace.take(kQueries);
  }
  int64_t width;
  Workspace<T> workspace;
  T* rows;                     // [kQueries, width]
  T *queries, *result;         // [width, kQueries]
  T *keys, *values;            // [kKeys, width]
  T* scores;                   // [kKeys, kQueries]
  T *largest, *sum, *shrink;   // [kQueries]
  Sight<T> sight;
};

// scores [keys, kQueries] -> e^{score - largest}; largest, sum and the factor that shrinks what was summed before.
template <class D, class T>
void soften(D d, ForwardBlock<T>& w, int64_t keys, bool masked) {
  using V = hn::VFromD<D>;
  constexpr size_t kVectors = kQueries / hn::MaxLanes(d);
  const V nothing = hn::Neg(hn::Inf(d));
  const auto lane = [&](size_t j) { return static_cast<int64_t>(j * hn::MaxLanes(d)); };
  V largest[kVectors];
  for (size_t j = 0; j < kVectors; ++j) largest[j] = hn::Load(d, w.largest + lane(j));
  for (int64_t key = 0; key < keys; ++key) {
    T* score = w.scores + key * kQueries;
    for (size_t j = 0; j < kVectors; ++j) {
      V s = hn::Load(d, score + lane(j));
      if (masked) {
        s = hn::IfThenElse(w.sight.mask(d, key, lane(j)), s, nothing);
        hn::Store(s, d, score + lane(j));
      }
      largest[j] = hn::Max(largest[j], s);
    }
  }
  for (size_t j = 0; j < kVectors; ++j) {
    const V shrink = vector_exp_nonpositive(d, hn::Sub(hn::Load(d, w.largest + lane(j)), largest[j]));
    V sum = hn::Mul(hn::Load(d, w.sum + lane(j)), shrink);
    for (int64_t key = 0; key < keys; ++key) {
      T* score = w.scores + key * kQueries + lane(j);
      const V e = vector_exp_nonpositive(d, hn::Sub(hn::Load(d, score), largest[j]));
      hn::Store(e, d, score);
      sum = hn::Add(sum, e);
    }
    hn::Store(largest[j], d, w.largest + lane(j));
    hn::Store(shrink, d, w.shrink + lane(j));
    hn::Store(sum, d, w.sum + lane(j));
  }
}

template <class T>
void forward_block(const CausalAttentionForward<T>& p, int64_t b, int64_t head, int64_t block, ForwardBlock<T>& w) {
  const hn::ScalableTag<T> d;
  const SeenTokens& row = p.rows[b];
  const QueryBlock queries = query_block(row, block);
  if (queries.count() == 0) return;
  const int64_t group = head * p.kv_heads / p.heads, width = w.width, earlier = p.keys - p.queries;
  pack_rows(row, p.q, b, head, earlier, queries.first, queries.count(), p.size, p.scale, w.rows);
  transpose_rows(w.rows, queries.count(), width, w.queries);
  std::fill_n(w.largest, kQueries, kLowest<T>);
  std::fill_n(w.sum, kQueries, T(0));
  std::fill_n(w.result, width * kQueries, T(0));
  for (int64_t key = row.first_seen(queries.first); key < queries.last; key += kKeys) {
    const int64_t keys = std::min(kKeys, queries.last - key);
    const Rows<T> k = block_rows(row, p.k, b, group, key, keys, p.size, w.keys);
    const Rows<T> v = block_rows(row, p.v, b, group, key, keys, p.size, w.values);
    product<Start::kZero>(d, {k.data, k.stride, 1, w.queries, kQueries, p.size}, whole_tiles(keys), kQueries,
                          static_cast<const T*>(nullptr), w.scores, kQueries);
    soften(d, w, keys, w.sight.read(row, queries, key, keys));
    product<Start::kScaled>(d, {v.data, 1, v.stride, w.scores, kQueries, keys}, width, kQueries, w.shrink, w.result,
                            kQueries);
  }
  for (int64_t m = 0; m < queries.count(); ++m) {
    const int64_t query = row.column(queries.first + m) - earlier;
    const T scale = T(1) / w.sum[m];
    T* HWY_RESTRICT y = p.y.at(b, head, query);
    for (int64_t c = 0; c < p.size; ++c) y[c] = scale * w.result[c * kQueries + m];
    p.lse[(b * p.heads + head) * p.queries + query] = w.largest[m] + std::log(w.sum[m]);
  }
}

template <class T>
void forward(const CausalAttentionForward<T>& p, int64_t begin, int64_t end) {
  ForwardBlock<T> w(p.size);
  const int64_t blocks = causal_attention_blocks(p.queries);
  for (int64_t item = begin; item < end; ++item) {
    // Later blocks see more keys: early and late ones in turns, so that every range of items holds its share of the work.
    const int64_t at = item % blocks, block = at % 2 == 0 ? at / 2 : blocks - 1 - at / 2;
    forward_block(p, item / blocks / p.heads, item / blocks % p.heads, block, w);
  }
}

}  // namespace hippodrome::causal_attention_kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
