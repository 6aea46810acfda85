// Gated recurrent unit over a whole sequence (Cho et al. 2014, in the form of cuDNN and PyTorch: the reset gate acts
// after the recurrent product, and z keeps the old state; the paper's 1 - z is our z):
//
//   r = σ(gates_r + W_hr h),   z = σ(gates_z + W_hz h),   q = W_hn h + b_hn
//   n = tanh(gates_n + r∘q)
//   h' = (1 - z)∘n + z∘h
//
// gates [B, L, 3H] hold W_ih x_t + b for all t, with b_hr and b_hz added in. Positions [B, L]: -1 is padding (y = 0,
// state untouched), 0 zeroes the state before the token, anything else continues. All arrays are contiguous.
#pragma once

#include <cstdint>

namespace hippodrome {

template <class T>
struct GruScanForward {
  int64_t batch, length, hidden;  // B, L, H
  const T* gates;                 // [B, L, 3H], order r, z, n
  const T* weight_hh;             // [3H, H]
  const T* packed;                // the kernel's copy of weight_hh (gru_scan_pack), or null: read weight_hh itself
  const T* bias_hn;               // [H]
  const T* h0;                    // [B, H] or null for zeros
  const int64_t* positions;       // [B, L] or null
  T* y;                           // [B, L, H]
  T* h;                           // [B, H], after the last token
  T* activated;                   // [B, L, 4H]: r, z, n, q (0 at padding); null when not kept
  T* hidden_states;               // [B, L, H]: h_t, carried over padding; null when not kept
};

template <class T>
struct GruScanBackward {
  int64_t batch, length, hidden;
  const T* weight_hh;        // [3H, H]
  const T* packed;           // the kernel's copy (gru_scan_pack_adjoint)
  const T* activated;        // [B, L, 4H]
  const T* hidden_states;    // [B, L, H]
  const T* h0;               // [B, H] or null
  const int64_t* positions;  // [B, L] or null
  const T* grad_y;           // [B, L, H]
  const T* grad_h;           // [B, H]
  T* grad_gates;             // [B, L, 3H]
  T* grad_q;                 // [B, L, H]: gradient of q, which is not that of gates_n; kernel only
  T* previous_h;             // [B, L, H]: h_{t-1} (0 at padding); kernel only
  T* grad_weight_hh;         // [3H, H]; written by the reference only (the kernel's caller makes products over all t)
  T* grad_bias_hn;           // [H]; likewise
  T* grad_h0;                // [B, H]
};

// The kernels, on rows [begin, end) of the batch: a row needs nothing from another. T is float or double.
template <class T>
void gru_scan_pack(const T* weight_hh, int64_t hidden, T* packed);
template <class T>
void gru_scan_pack_adjoint(const T* weight_hh, int64_t hidden, T* packed);
template <class T>
void gru_scan_forward(const GruScanForward<T>& p, int64_t begin, int64_t end);
template <class T>
void gru_scan_backward(const GruScanBackward<T>& p, int64_t begin, int64_t end);

}  // namespace hippodrome
