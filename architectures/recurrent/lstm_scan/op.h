// Long short-term memory over a whole sequence (Hochreiter & Schmidhuber 1997, with the forget gates of Gers et al.
// 2000):
//
//   (i, f, g, o)_t = gates_t + W_hh h_{t-1},   i, f, o <- sigmoid,   g <- tanh
//   c_t = f∘c_{t-1} + i∘g
//   h_t = o∘tanh(c_t)
//
// gates [B, L, 4H] hold W_ih x_t + b for all t. Positions [B, L]: -1 is padding (y = 0, state untouched), 0 zeroes the
// state before the token, anything else continues. All arrays are contiguous.
#pragma once

#include <cstdint>

namespace hippodrome {

template <class T>
struct LstmScanForward {
  int64_t batch, length, hidden;  // B, L, H
  const T* gates;                 // [B, L, 4H], order i, f, g, o
  const T* weight_hh;             // [4H, H]
  const T* packed;                // the kernel's copy of weight_hh (lstm_scan_pack), or null: read weight_hh itself
  const T* h0;                    // [B, H] or null for zeros
  const T* c0;                    // [B, H] or null for zeros
  const int64_t* positions;       // [B, L] or null
  T* y;                           // [B, L, H]
  T* h;                           // [B, H], after the last token
  T* c;                           // [B, H]
  T* activated;                   // [B, L, 4H]: i, f, g, o after their activations (0 at padding); null when not kept
  T* cells;                       // [B, L, H]: c_t, carried over padding; null when not kept
};

template <class T>
struct LstmScanBackward {
  int64_t batch, length, hidden;
  const T* weight_hh;        // [4H, H]
  const T* packed;           // the kernel's copy (lstm_scan_pack_adjoint)
  const T* activated;        // [B, L, 4H]
  const T* cells;            // [B, L, H]
  const T* h0;               // [B, H] or null
  const T* c0;               // [B, H] or null
  const int64_t* positions;  // [B, L] or null
  const T* grad_y;           // [B, L, H]
  const T* grad_h;           // [B, H]
  const T* grad_c;           // [B, H]
  T* grad_gates;             // [B, L, 4H]
  T* grad_weight_hh;  // [4H, H]; written by the reference only (the kernel's caller makes one product over all t)
  T* previous_h;      // [B, L, H]: h_{t-1} (0 at padding), the other factor of that product; kernel only
  T* grad_h0;         // [B, H]
  T* grad_c0;         // [B, H]
};

// The kernels, on rows [begin, end) of the batch: a row needs nothing from another. T is float or double.
template <class T>
void lstm_scan_pack(const T* weight_hh, int64_t hidden, T* packed);
template <class T>
void lstm_scan_pack_adjoint(const T* weight_hh, int64_t hidden, T* packed);
template <class T>
void lstm_scan_forward(const LstmScanForward<T>& p, int64_t begin, int64_t end);
template <class T>
void lstm_scan_backward(const LstmScanBackward<T>& p, int64_t begin, int64_t end);

// The activations as the kernels compute them, for tests: sigmoid[i] and tanh[i] of x[i], i < count.
template <class T>
void recurrent_activations(const T* x, int64_t count, T* sigmoid, T* tanh);

}  // namespace hippodrome
