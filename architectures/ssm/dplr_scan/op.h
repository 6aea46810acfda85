// The recurrence of a state-space model whose matrix is diagonal plus low rank (Gu, Goel & Ré 2021, "Efficiently
// Modeling Long Sequences with Structured State Spaces", appendix C.2), per channel with N states, each standing for
// itself and its conjugate, and rank R:
//
//   s_{t,r} = 2 Re Σ_n q_{r,n} x_{t-1,n},    x_t = a∘x_{t-1} + Σ_r w_r s_{t,r} + b u_t,    y_t = 2 Re Σ_n c_n x_{t,n}
//
// so that a step costs O(N). a, b, c, q, w are already discretised. There is no D·u term. Positions [B, L]: -1 is
// padding (y = 0, state untouched), 0 zeroes the state before the token, anything else continues. Adjoint, with λ_t =
// ∂/∂x_t as a pair of reals and * the conjugate:
//
//   λ_t = 2 c* ∂y_t + a* λ_{t+1} + 2 Σ_r q_r* σ_{t+1,r},    σ_{t,r} = Re Σ_n w_{r,n}* λ_{t,n},    ∂u_t = Re Σ b* λ_t
//   ∂a = Σ λ_t x*_{t-1},   ∂b = Σ λ_t u_t,   ∂c = Σ 2 ∂y_t x*_t,   ∂q_r = Σ 2 σ_{t,r} x*_{t-1},   ∂w_r = Σ λ_t s_{t,r}
#pragma once

#include <cstdint>

namespace hippodrome {

// Tokens between two stored states: backward recomputes 32 states and keeps as many adjoints, 256 KiB at N = 32, which
// stay in the L2 cache.
inline constexpr int64_t kDplrScanChunk = 32;
// Channels a work item takes, whatever the vector width: one AVX-512 vector of float.
inline constexpr int64_t kDplrScanGroup = 16;
// HiPPO matrices have rank 1 or 2 (the same paper, theorem 1).
inline constexpr int64_t kDplrScanMaxRank = 2;

inline int64_t dplr_scan_chunks(int64_t length) { return (length + kDplrScanChunk - 1) / kDplrScanChunk; }
inline int64_t dplr_scan_groups(int64_t channels) { return (channels + kDplrScanGroup - 1) / kDplrScanGroup; }

// Complex numbers are pairs of reals, real before imaginary.
template <class T>
struct DplrScanForward {
  int64_t batch, channels, length, states, rank;  // B, D, L, N, R
  const T* u;                                     // [B, L, D]
  const T *a, *b, *c;                             // each [D, N, 2]
  const T *q, *w;                                 // each [D, R, N, 2]
  const T* state;                                 // [B, D, N, 2] or null for zeros
  const int64_t* positions;                       // [B, L] or null
  T* y;                                           // [B, L, D]
  T* last_state;                                  // [B, D, N, 2]
  T* checkpoints;  // [B, chunks, groups, N, 2, 16]: x before each chunk; null when not kept
};

template <class T>
struct DplrScanBackward {
  int64_t batch, channels, length, states, rank;
  const T* u;                   // [B, L, D]
  const T *a, *b, *c;           // each [D, N, 2]
  const T *q, *w;               // each [D, R, N, 2]
  const T* state;               // [B, D, N, 2] or null; the reference alone reads it
  const T* checkpoints;         // as above; the kernel alone reads it
  const int64_t* positions;     // [B, L] or null
  const T* grad_y;              // [B, L, D]
  const T* grad_last_state;     // [B, D, N, 2]
  T* grad_u;                    // [B, L, D]
  T *grad_a, *grad_b, *grad_c;  // each [D, N, 2]
  T *grad_q, *grad_w;           // each [D, R, N, 2]
  T* grad_state;                // [B, D, N, 2]
};

// Forward over items [begin, end) of groups · B: item / B is the group of channels, item % B the row.
template <class T>
void dplr_scan_forward(const DplrScanForward<T>& p, int64_t begin, int64_t end);
// One token (L = 1, no checkpoints) over channels [begin, end) of B · D, vectors across states instead of channels.
template <class T>
void dplr_scan_step(const DplrScanForward<T>& p, int64_t begin, int64_t end);
// Backward over groups [begin, end); a group goes through the rows in order, so its parameters' sums have one order.
template <class T>
void dplr_scan_backward(const DplrScanBackward<T>& p, int64_t begin, int64_t end);

}  // namespace hippodrome
