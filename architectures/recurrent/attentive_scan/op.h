// A recurrence that attends from its own last state, over whole target sequences: the decoder of RNNsearch (Bahdanau et
// al. 2015, appendix A.1.2 and A.2.2) and, with LSTM cells, the bottom decoder layer of GNMT (Wu et al. 2016, section
// 3). At every target token, with additive_attention/op.h's attention over the keys and values of the row's source:
//
//   q = W_q s_{t-1},   c_t = attention(q)
//   gru:  r = σ(gates_r + U_r s_{t-1} + C_r c_t),   z likewise,   n = tanh(gates_n + U_n (r∘s_{t-1}) + C_n c_t)
//         s_t = (1 - z)∘s_{t-1} + z∘n
//   lstm: i, f, o = σ(gates + U s_{t-1} + C c_t),   g = tanh(…),   cell_t = f∘cell_{t-1} + i∘g,   s_t = o∘tanh(cell_t)
//
// The GRU is the paper's, not gru_scan's: z takes the new candidate, and the reset gate acts before the recurrent
// product. gates [B, L, G n] hold W y_{t-1} + b for all t, in the order r, z, n or i, f, g, o. Rows of the batch are
// hypotheses: the first B / sources of them read source 0, the next as many source 1, and so on. Positions [B, L]: -1
// is padding (s and c are 0, the state is untouched), 0 zeroes the state before the token, anything else continues.
// All arrays are contiguous.
#pragma once

#include <cstdint>

#include "architectures/recurrent/additive_attention/op.h"

namespace hippodrome {

struct AttentiveScanShape {
  bool lstm;
  int64_t batch, length, hidden, features, width;  // B, L, n, A, M
  int64_t sources, keys;                           // rows of keys and values, S
  int64_t gates() const { return (lstm ? 4 : 3) * hidden; }
  int64_t source_of(int64_t row) const { return row / (batch / sources); }
};

template <class T>
struct AttentiveScanForward {
  AttentiveScanShape shape;
  const VisibleKeys* rows;   // [sources]
  const T* gates;            // [B, L, G n]
  const T* weight_hh;        // [G n, n]: U
  const T* weight_c;         // [G n, M]: C
  const T* weight_q;         // [A, n]
  const T* keys;             // [sources, S, A]
  const T* exponentials;     // [sources, S, A]: e^{2 keys}; kernel only, null: sums go through a tanh each
  const T* v;                // [A]
  const T* values;           // [sources, S, M]
  const T* s0;               // [B, n] or null for zeros
  const T* c0;               // [B, n] or null for zeros; lstm
  const int64_t* positions;  // [B, L] or null
  T* s;                      // [B, L, n]
  T* contexts;               // [B, L, M]
  T* final_s;                // [B, n]
  T* final_c;                // [B, n]; lstm
  // What backward needs; null when not kept.
  T* activated;  // [B, L, G n]: the gates after their activations
  T* states;     // [B, L, n]: s, carried over padding
  T* cells;      // [B, L, n]: likewise; lstm
  T* queries;    // [B, L, A]
  T* lse;        // [B, L]: of the attention's softmax
};

template <class T>
struct AttentiveScanBackward {
  AttentiveScanShape shape;
  const VisibleKeys* rows;
  const T *weight_hh, *weight_c, *weight_q;  // the reference's
  // The kernel's: the same with rows and columns exchanged.
  const T* recurrent;   // [n, 2 n] of r and z, or [n, 4 n]
  const T* candidate;   // [n, n] of n; gru
  const T* of_context;  // [M, G n]
  const T* of_query;    // [n, A]
  const T *keys, *exponentials, *v, *values;
  const T *s0, *c0;
  const int64_t* positions;
  const T *contexts, *activated, *states, *cells, *queries, *lse;
  const T *grad_s, *grad_contexts;       // [B, L, n], [B, L, M]
  const T *grad_final_s, *grad_final_c;  // [B, n]
  T* grad_gates;                         // [B, L, G n]
  T *grad_keys, *grad_values;            // as keys and values; zero on entry
  T *grad_s0, *grad_c0;                  // [B, n]
  // The factors of the weights' gradients, which the kernel's caller multiplies over all tokens at once; 0 at padding.
  T* grad_queries;  // [B, L, A]
  T* previous_s;    // [B, L, n]: s_{t-1}
  T* reset_s;       // [B, L, n]: r∘s_{t-1}; gru
  T* partial_v;     // [sources, A]: ∂v of each
  // The reference's; zero on entry.
  T *grad_weight_hh, *grad_weight_c, *grad_weight_q, *grad_v;
};

// Forward over the rows [begin, end) of the batch.
template <class T>
void attentive_scan_forward(const AttentiveScanForward<T>& p, int64_t begin, int64_t end);
// Backward over the sources [begin, end), each with all of its rows: these add to the gradients of its keys and values.
template <class T>
void attentive_scan_backward(const AttentiveScanBackward<T>& p, int64_t begin, int64_t end);

}  // namespace hippodrome
