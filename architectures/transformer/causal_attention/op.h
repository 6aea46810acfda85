// Causal softmax attention of L queries over T ≥ L tokens, of which the last L are the queries' own (Vaswani et al.
// 2017, equation 1; grouped keys and values of Ainslie et al. 2023; softmax in one pass over blocks of keys as Milakov
// & Gimelshein 2018 and Dao et al. 2022). Head h reads key head ⌊h G / H⌋. For a query i and the keys j that it sees:
//
//   s_ij = scale q_i·k_j,    lse_i = log Σ_j e^{s_ij},    p_ij = e^{s_ij - lse_i},    y_i = Σ_j p_ij v_j
//
// It sees its own token and those before it in its own sequence, and at most `window` of them where that is not 0.
// Positions [B, T]: -1 is padding (not seen; y = 0 and lse = 0), 0 starts a sequence, anything else continues.
// Adjoint, with D_i = ∂y_i·y_i - ∂lse_i:
//
//   ∂v_j = Σ_i p_ij ∂y_i,   ∂s_ij = p_ij (∂y_i·v_j - D_i),   ∂q_i = scale Σ_j ∂s_ij k_j,   ∂k_j = scale Σ_i ∂s_ij q_i
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace hippodrome {

// Queries of a work item, whatever the vector width: they fill the lanes of three AVX-512 vectors of float.
inline constexpr int64_t kAttentionQueries = 48;
// Keys of a work item of the kernel for few queries, which divides long caches among threads.
inline constexpr int64_t kAttentionStepKeys = 1024;
// As many pairs of a query and a head of its group, or fewer, take that kernel: vectors along the head, not along
// queries.
inline constexpr int64_t kAttentionStepRows = 8;

// The tokens of one row that are not padding, numbered from 0, and what each of them sees: the tokens from `first_seen`
// to itself. Both are never less for a later token.
class SeenTokens {
 public:
  // positions [T] of the row, or null for a plain run.
  SeenTokens(const int64_t* positions, int64_t keys, int64_t queries, int64_t window)
      : window_(window > 0 ? window : keys), count_(keys), first_query_(keys - queries), plain_(positions == nullptr) {
    if (plain_) return;
    for (int64_t t = 0, start = 0; t < keys; ++t) {
      if (t == keys - queries) first_query_ = static_cast<int64_t>(columns_.size());
      if (positions[t] < 0) continue;
      if (positions[t] == 0) start = static_cast<int64_t>(columns_.size());
      columns_.push_back(t);
      starts_.push_back(start);
    }
    count_ = static_cast<int64_t>(columns_.size());
  }

  bool plain() const { return plain_; }
  int64_t count() const { return count_; }
  int64_t first_query() const { return first_query_; }  // the first token that is one of the queries
  // Where the token stands in the row, padding counted.
  int64_t column(int64_t token) const { return plain_ ? token : columns_[static_cast<size_t>(token)]; }
  int64_t first_seen(int64_t token) const {
    return std::max(plain_ ? 0 : starts_[static_cast<size_t>(token)], token - window_ + 1);
  }

 private:
  int64_t window_, count_, first_query_;
  bool plain_;
  std::vector<int64_t> columns_, starts_;
};

// [B, heads, tokens, hd] anywhere in memory, hd contiguous; strides in elements.
template <class T>
struct AttentionHeads {
  T* data;
  int64_t row_stride, head_stride, token_stride;
  T* at(int64_t row, int64_t head, int64_t token) const {
    return data + row * row_stride + head * head_stride + token * token_stride;
  }
};

template <class T>
struct CausalAttentionForward {
  int64_t batch, heads, kv_heads, queries, keys, size;  // B, H, G, L, T, hd
  T scale;
  const SeenTokens* rows;        // [B]
  AttentionHeads<const T> q;     // [B, H, L, hd]
  AttentionHeads<const T> k, v;  // [B, G, T, hd]
  AttentionHeads<T> y;           // [B, H, L, hd]; zero on entry where a query is padding
  T* lse;                        // [B, H, L]; zero on entry where a query is padding
  T* partial;                    // [B, G, chunks, L H/G, hd + 2], the kernel for few queries alone
};

template <class T>
struct CausalAttentionBackward {
  int64_t batch, heads, kv_heads, queries, keys, size;
  T scale;
  const SeenTokens* rows;
  AttentionHeads<const T> q, k, v;
  AttentionHeads<const T> y, grad_y;  // [B, H, L, hd]
  const T *lse, *grad_lse;            // [B, H, L]
  AttentionHeads<T> grad_q;  // [B, H, L, hd]; gradients zero on entry where tokens are padding, all in the reference
  AttentionHeads<T> grad_k, grad_v;  // [B, G, T, hd]
};

inline int64_t causal_attention_blocks(int64_t queries) {
  return (queries + kAttentionQueries - 1) / kAttentionQueries;
}
inline int64_t causal_attention_chunks(int64_t keys) { return (keys + kAttentionStepKeys - 1) / kAttentionStepKeys; }

// Forward over items [begin, end) of B · H · blocks.
template <class T>
void causal_attention_forward(const CausalAttentionForward<T>& p, int64_t begin, int64_t end);
// Forward for few queries (L H/G ≤ kAttentionStepRows), in two passes: over items of B · G · chunks, then over those of
// B · H, which join the chunks.
template <class T>
void causal_attention_step(const CausalAttentionForward<T>& p, int64_t begin, int64_t end);
template <class T>
void causal_attention_join(const CausalAttentionForward<T>& p, int64_t begin, int64_t end);
// Backward over items [begin, end) of B · G; an item goes through the heads and queries of its group in order, so that
// the sums over them have one order.
template <class T>
void causal_attention_backward(const CausalAttentionBackward<T>& p, int64_t begin, int64_t end);

}  // namespace hippodrome
