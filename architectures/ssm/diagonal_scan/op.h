// The recurrence of a diagonal complex state-space model (Gu, Gupta, Goel & Ré 2022, "On the Parameterization and
// Initialization of Diagonal State Space Models", eq. 1 discretised), per channel with N states, each standing for
// itself and its conjugate:
//
//   x_t = a∘x_{t-1} + b u_t,    y_t = 2 Re Σ_n c_n x_{t,n}
//
// a, b, c are already discretised (ZOH: a = e^{ΔA}, b = (e^{ΔA} - 1)/A · B; bilinear: a = (1 + ΔA/2)/(1 - ΔA/2),
// b = Δ/(1 - ΔA/2) · B). There is no D·u term. Positions [B, L]: -1 is padding (y = 0, state untouched), 0 zeroes the
// state before the token, anything else continues. Adjoint, with λ_t = ∂/∂x_t as a pair of reals and * the conjugate:
//
//   λ_t = 2 c* ∂y_t + a* λ_{t+1},   ∂u_t = Re Σ b* λ_t,   ∂a = Σ λ_t x*_{t-1},   ∂b = Σ λ_t u_t,   ∂c = Σ 2 ∂y_t x*_t
#pragma once

#include <cstdint>

namespace hippodrome {

// Tokens between two stored states: backward recomputes 64 states of two modes, 16 KiB, and stays in the L1 cache.
inline constexpr int64_t kDiagonalScanChunk = 64;
// Channels a work item takes, whatever the vector width: one AVX-512 vector of float.
inline constexpr int64_t kDiagonalScanGroup = 16;

inline int64_t diagonal_scan_chunks(int64_t length) { return (length + kDiagonalScanChunk - 1) / kDiagonalScanChunk; }
inline int64_t diagonal_scan_groups(int64_t channels) {
  return (channels + kDiagonalScanGroup - 1) / kDiagonalScanGroup;
}

// The six parameters in the order a, b, c, real before imaginary; each [D, N].
template <class T>
struct DiagonalScanForward {
  int64_t batch, channels, length, states;  // B, D, L, N
  const T* u;                               // [B, L, D]
  const T* parameters[6];                   // each [D, N]
  const T* state;                           // [B, D, N, 2] or null for zeros
  const int64_t* positions;                 // [B, L] or null
  T* y;                                     // [B, L, D]
  T* last_state;                            // [B, D, N, 2]
  T* checkpoints;                           // [B, chunks, groups, N, 2, 16]: x before each chunk; null when not kept
};

template <class T>
struct DiagonalScanBackward {
  int64_t batch, channels, length, states;
  const T* u;                // [B, L, D]
  const T* parameters[6];    // each [D, N]
  const T* state;            // [B, D, N, 2] or null; the reference alone reads it
  const T* checkpoints;      // as above; the kernel alone reads it
  const int64_t* positions;  // [B, L] or null
  const T* grad_y;           // [B, L, D]
  const T* grad_last_state;  // [B, D, N, 2]
  T* grad_u;                 // [B, L, D]
  T* grad_parameters[6];     // each [D, N]
  T* grad_state;             // [B, D, N, 2]
};

// Forward over items [begin, end) of groups · B: item / B is the group of channels, item % B the row.
template <class T>
void diagonal_scan_forward(const DiagonalScanForward<T>& p, int64_t begin, int64_t end);
// One token (L = 1, no checkpoints) over channels [begin, end) of B · D, vectors across states instead of channels.
template <class T>
void diagonal_scan_step(const DiagonalScanForward<T>& p, int64_t begin, int64_t end);
// Backward over groups [begin, end); a group goes through the rows in order, so its parameters' sums have one order.
template <class T>
void diagonal_scan_backward(const DiagonalScanBackward<T>& p, int64_t begin, int64_t end);

}  // namespace hippodrome
