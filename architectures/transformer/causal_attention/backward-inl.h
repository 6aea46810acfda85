// Backward of causal attention for one instruction set. Scores are computed anew, block by block, from the kept logarithms
// of sums; the gradients of a group's keys and values gather in memory of the item.
#if defined(HIPPODROME_CAUSAL_ATTENTION_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HIPPODROME_CAUSAL_ATTENTION_BACKWARD_INL_H_
#undef HIPPODROME_CAUSAL_ATTENTION_BACKWARD_INL_H_
#else
#define HIPPODROME_CAUSAL_ATTENTION_BACKWARD_INL_H_
#endif

#include "architectures/transformer/causal_attention/blocks-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::causal_attention_kernel::HWY_NAMESPACE {

template <class T>
struct BackwardBlock {
  BackwardBlock(int64_t size, int64_t tokens)
      : width(padded(size)),
        tokens(tokens + kKeys),
        workspace(5 * width * kQueries + 2 * width * kKeys + 2 * kKeys * kQueries + 2 * kQueries +
                  2 * width * this->tokens) {
    for (T** array : {&query_rows, &grad_rows, &queries, &grads, &grad_queries}) {
      *array = workspace.take(width * kQueries);
    }
    for (T** array : {&keys, &values}) *array = workspace.take(width * kKeys);
    for (T** array : {&weights, &grad_scores}) *array = workspace.take(kKeys * kQueries);
    for (T** array : {&lse, &common}) *array = workspace.take(kQueries);
    for (T** array : {&grad_keys, &grad_values}) *array = workspace.take(width * this->tokens);
  }
  int64_t width, tokens;
  Workspace<T> workspace;
  T *query_rows, *grad_rows;            // [kQueries, width]: scale q and ∂y
  T *queries, *grads, *grad_queries;    // [width, kQueries]: the same, and ∂q / scale
  T *keys, *values;                     // [kKeys, width]
  T *weights, *grad_scores;             // [kKeys, kQueries]: p and ∂s
  T *lse, *common;                      // [kQueries]: the latter D of op.h
  T *grad_keys, *grad_values;           // [tokens, width]
  Sight<T> sight;
};

// weights, grad_scores: q·k and ∂y·v -> p and ∂s.
template <class D, class T>
void differentiate(D d, BackwardBlock<T>& w, int64_t keys, bool masked) {
  using V = hn::VFromD<D>;
  for (int64_t m = 0; m < kQueries; m += static_cast<int64_t>(hn::Lanes(d))) {
    const V lse = hn::Load(d, w.lse + m), common = hn::Load(d, w.common + m);
    for (int64_t key = 0; key < keys; ++key) {
      T *weight = w.weights + key * kQueries + m, *grad = w.grad_scores + key * kQueries + m;
      V p = vector_exp_nonpositive(d, hn::Sub(hn::Load(d, weight), lse));
      if (masked) p = hn::IfThenElseZero(w.sight.mask(d, key, m), p);
      hn::Store(p, d, weight);
      hn::Store(hn::Mul(p, hn::Sub(hn::Load(d, grad), common)), d, grad);
    }
  }
  // Rows behind the last key take part in products of whole tiles.
  for (T* rows : {w.weights, w.grad_scores}) {
    std::fill(rows + keys * kQueries, rows + whole_tiles(keys) * kQueries, T(0));
  }
}

template <class T>
void backward_block(const CausalAttentionBackward<T>& p, int64_t b, int64_t head, int64_t block, BackwardBlock<T>& w) {
  const hn::ScalableTag<T> d;
  const SeenTokens& row = p.rows[b];
  const QueryBlock queries = query_block(row, block);
  if (queries.count() == 0) return;
  const int64_t group = head * p.kv_heads / p.heads, width = w.width, earlier = p.keys - p.queries;
  pack_rows(row, p.q, b, head, earlier, queries.first, queries.count(), p.size, p.scale, w.query_rows);
  pack_rows(row, p.grad_y, b, head, earlier, queries.first, queries.count(), p.size, T(1), w.grad_rows);
  std::fill(w.query_rows + queries.count() * width, w.query_rows + kQueries * width, T(0));
  std::fill(w.grad_rows + queries.count() * width, w.grad_rows + kQueries * width, T(0));
  transpose_rows(w.query_rows, queries.count(), width, w.queries);
  transpose_rows(w.grad_rows, queries.count(), width, w.grads);
  std::fill_n(w.lse, kQueries, T(0));
  std::fill_n(w.common, kQueries, T(0));
  for (int64_t m = 0; m < queries.count(); ++m) {
    const int64_t query = row.column(queries.first + m) - earlier, at = (b * p.heads + head) * p.queries + query;
    const T *y = p.y.at(b, head, query), *grad = w.grad_rows + m * width;
    T sum = 0;
    for (int64_t c = 0; c < p.size; ++c) sum += y[c] * grad[c];
    w.common[m] = sum - p.grad_lse[at];
    w.lse[m] = p.lse[at];
  }
  std::fill_n(w.grad_queries, width * kQueries, T(0));
  const T* no_scale = nullptr;
  for (int64_t key = row.first_seen(queries.first); key < queries.last; key += kKeys) {
    const int64_t keys = std::min(kKeys, queries.last - key), rows = whole_tiles(keys);
    const Rows<T> k = block_rows(row, p.k, b, group, key, keys, p.size, w.keys);
    const Rows<T> v = block_rows(row, p.v, b, group, key, keys, p.size, w.values);
    product<Start::kZero>(d, {k.data, k.stride, 1, w.queries, kQueries, p.size}, rows, kQueries, no_scale, w.weights,
                          kQueries);
    product<Start::kZero>(d, {v.data, v.stride, 1, w.grads, kQueries, p.size}, rows, kQueries, no_scale, w.grad_scores,
                          kQueries);
    differentiate(d, w, keys, w.sight.read(row, queries, key, keys));
    product<Start::kAdd>(d, {w.weights, kQueries, 1, w.grad_rows, width, kQueries}, rows, width, no_scale,
                         w.grad_values + key * width, width);
    product<Start::kAdd>(d, {w.grad_scores, kQueries, 1, w.query_rows, width, kQueries}, rows, width, no_scale,
                         w.grad_keys + key * width, width);
    product<Start::kAdd>(d, {k.data, 1, k.stride, w.grad_scores, kQueries, keys}, width, kQueries, no_scale,
                         w.grad_queries, kQueries);
  }
  for (int64_t m = 0; m < queries.count(); ++m) {
    T* HWY_RESTRICT grad = p.grad_q.at(b, head, row.column(queries.first + m) - earlier);
    for (int64_t c = 0; c < p.size; ++c) grad[c] = p.scale * w.grad_queries[c * kQueries + m];
  }
}

template <class T>
void backward(const CausalAttentionBackward<T>& p, int64_t begin, int64_t end) {
  BackwardBlock<T> w(p.size, p.keys);
  const int64_t shared = p.heads / p.kv_heads;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t b = item / p.kv_heads, group = item % p.kv_heads;
    const SeenTokens& row = p.rows[b];
    for (T* sums : {w.grad_keys, w.grad_values}) std::fill_n(sums, w.width * w.tokens, T(0));
    for (int64_t head = group * shared; head < (group + 1) * shared; ++head) {
      for (int64_t block = 0; block < causal_attention_blocks(p.queries); ++block) backward_block(p, b, head, block, w);
    }
    for (int64_t token = 0; token < row.count(); ++token) {
      std::copy_n(w.grad_keys + token * w.width, p.size, p.grad_k.at(b, group, row.column(token)));
      std::copy_n(w.grad_values + token * w.width, p.size, p.grad_v.at(b, group, row.column(token)));
    }
  }
}

}  // namespace hippodrome::causal_attention_kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
