// What the CUDA kernels of the recurrent scans (lstm_scan, gru_scan) read and write at one time step, whatever their
// cell. No CUDA and no LibTorch headers, so that both sides can include it.
#pragma once

#include <cstdint>

#include "core/cuda/element.h"

namespace hippodrome::recurrent {

// Numbers per unit and token that a cell hands to its adjoint.
inline constexpr int kActivated = 4;

// Device pointers, of a cell with G gates. `element` is the type of gates and y; all else is float32, float64 where
// that is float64. Without a comment on its strides an array is contiguous.
struct Step {
  int64_t batch = 0, length = 0, hidden = 0;  // B, L, H
  int64_t step = 0;                           // t
  cuda::Element element = cuda::Element::kFloat;
  const void* gates = nullptr;  // [B, L, G H], units contiguous
  int64_t gates_row = 0, gates_time = 0;
  const void* product = nullptr;       // [B, G H]: W_hh h_{t-1}
  const int64_t* positions = nullptr;  // [B, L] or null
  void* y = nullptr;                   // [B, L, H]
  void* h = nullptr;                   // [B, H], written where the token is not padding
  void* activated = nullptr;           // [B, L, 4H], 0 at padding; or null: not kept
  void* states = nullptr;              // [B, L, H]: the cell's state after each token; or null
};

// `element` is the type of grad_y.
struct StepBackward {
  int64_t batch = 0, length = 0, hidden = 0;
  int64_t step = 0;
  cuda::Element element = cuda::Element::kFloat;
  const void* activated = nullptr;     // [B, L, 4H]
  const void* states = nullptr;        // [B, L, H]
  const void* h0 = nullptr;            // [B, H] or null
  const int64_t* positions = nullptr;  // [B, L] or null
  const void* grad_y = nullptr;        // [B, L, H], units contiguous
  int64_t grad_y_row = 0, grad_y_time = 0;
  void* grad_h = nullptr;         // [B, H]: of h_t from later tokens, but for what a sequence start in between cuts;
                                  // then that of h_{t-1}, less the part through the product
  void* grad_products = nullptr;  // [B, L, G H]: of W_hh h_{t-1}
  void* previous_h = nullptr;     // [B, L, H]: h_{t-1}, 0 at padding
};

}  // namespace hippodrome::recurrent
