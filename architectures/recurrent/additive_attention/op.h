// Additive attention of Lq queries over S keys (Bahdanau et al. 2015, section 3.1 and appendix A.1.2; softmax in one
// pass over blocks of keys as Milakov & Gimelshein 2018):
//
//   e_ij = Σ_h v_h tanh(q_ih + k_jh),   lse_i = log Σ_j e^{e_ij},   p_ij = e^{e_ij - lse_i},   c_i = Σ_j p_ij value_j
//
// with queries and keys already projected. Positions [B, S]: -1 is padding, which is not read; a row of padding alone
// gives c = 0 and lse = 0. Adjoint, with D_i = ∂c_i·c_i - ∂lse_i and t = tanh(q_ih + k_jh):
//
//   ∂value_j = Σ_i p_ij ∂c_i,   ∂e_ij = p_ij (∂c_i·value_j - D_i),   ∂v_h = Σ_ij ∂e_ij t
//   ∂q_ih = v_h Σ_j ∂e_ij (1 - t²),   ∂k_jh = v_h Σ_i ∂e_ij (1 - t²)
//
// The kernels never hold t for more pairs than are in registers. They use tanh(q + k) = 1 - 2r, r = 1 / (1 + e^{2q}
// e^{2k}): with both exponentials at hand a pair costs one multiply-add and one reciprocal; very small and very large
// numbers take other forms. All arrays are contiguous.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace hippodrome {

// Queries that a work item takes together, and keys of a block.
inline constexpr int64_t kAdditiveQueries = 16;
inline constexpr int64_t kAdditiveKeys = 32;
// Most pieces that backward cuts a row's keys into.
inline constexpr int64_t kAdditiveParts = 8;

// How large the numbers of a row are: all so small that tanh needs care about its digits, all such that exponentials of
// two rows can be multiplied, or larger (or no numbers).
enum class Magnitude : uint8_t { kLarge, kModerate, kSmall };

// The keys of one row that are not padding, numbered from 0.
class VisibleKeys {
 public:
  // positions [S] of the row, or null where all keys are visible.
  VisibleKeys(const int64_t* positions, int64_t keys) : count_(keys), all_(positions == nullptr) {
    if (all_) return;
    for (int64_t j = 0; j < keys; ++j) {
      if (positions[j] >= 0) columns_.push_back(j);
    }
    count_ = static_cast<int64_t>(columns_.size());
  }
  int64_t count() const { return count_; }
  // Where the key stands in the row, padding counted.
  int64_t column(int64_t key) const { return all_ ? key : columns_[static_cast<size_t>(key)]; }

  Magnitude magnitude = Magnitude::kLarge;  // of the largest of them

 private:
  int64_t count_;
  bool all_;
  std::vector<int64_t> columns_;
};

template <class T>
struct AdditiveAttentionForward {
  int64_t batch, queries, keys, size, width;  // B, Lq, S, H, M
  const VisibleKeys* rows;                    // [B]
  const T* q;                                 // [B, Lq, H]
  const T* k;                                 // [B, S, H]
  const T* exponentials;                      // [B, S, H]: e^{2k}; kernels only, null: sums go through a tanh each
  const T* v;                                 // [H]
  const T* values;                            // [B, S, M]; the weights alone: null, and M = 0
  T* context;                                 // [B, Lq, M]; the weights alone: p, [B, Lq, S]
  T* lse;                                     // [B, Lq]
};

template <class T>
struct AdditiveAttentionBackward {
  int64_t batch, queries, keys, size, width;
  const VisibleKeys* rows;
  const T* q;
  const T* k;
  const T* exponentials;
  const T* v;
  const T* values;
  const T *context, *grad_context;  // [B, Lq, M]
  const T *lse, *grad_lse;          // [B, Lq]
  T* grad_q;                        // [B, Lq, H]; all gradients zero on entry
  T* grad_k;                        // [B, S, H]
  T* grad_v;                        // [H]
  T* grad_values;                   // [B, S, M]
  // The kernel's own: its sums for each piece of the keys, of which the caller makes grad_q and grad_v.
  int64_t first_row;  // of those that item 0 and the ones behind it stand for
  T* partial_q;       // [rows together, parts, Lq, H]: ∂q
  T* partial_v;       // [B, parts, H]: ∂v
};

inline int64_t additive_attention_blocks(int64_t queries) {
  return (queries + kAdditiveQueries - 1) / kAdditiveQueries;
}
// Pieces of a row's keys in backward. It depends on S alone, so that neither threads nor other rows change a row's
// sums.
inline int64_t additive_attention_parts(int64_t keys) {
  const int64_t parts = keys / (2 * kAdditiveKeys);
  return parts < 1 ? 1 : parts > kAdditiveParts ? kAdditiveParts : parts;
}

// y = e^{2x} for the rows [begin, end) of x [rows, size], and the magnitude of each: |x| ≤ 0.25 is small (float32
// alone), |x| ≤ 20 in float32 and 170 in float64 moderate.
template <class T>
void additive_attention_exponentials(const T* x, int64_t size, int64_t begin, int64_t end, T* y, Magnitude* magnitudes);
// Forward over items [begin, end) of B · blocks.
template <class T>
void additive_attention_forward(const AdditiveAttentionForward<T>& p, int64_t begin, int64_t end);
// p instead of c, over the same items.
template <class T>
void additive_attention_weights(const AdditiveAttentionForward<T>& p, int64_t begin, int64_t end);
// Backward over items [begin, end) of rows · parts, from first_row on.
template <class T>
void additive_attention_backward(const AdditiveAttentionBackward<T>& p, int64_t begin, int64_t end);

}  // namespace hippodrome
