// Entries of the CUDA kernels of gru_scan: the elementwise part of one time step (op.h has the equations). No CUDA and
// no LibTorch headers, so that both sides can include it.
#pragma once

#include <cstdint>

#include "core/cuda/element.h"

namespace hippodrome {

// Device pointers. `element` is the type of gates and y; all else is float32, float64 where that is float64. Without a
// comment on its strides an array is contiguous.
struct GruScanStep {
  int64_t batch, length, hidden;  // B, L, H
  int64_t step;                   // t
  cuda::Element element;
  const void* gates;  // [B, L, 3H], order r, z, n; units contiguous
  int64_t gates_row, gates_time;
  const void* product;       // [B, 3H]: W_hh h_{t-1}
  const void* bias_hn;       // [H]
  const int64_t* positions;  // [B, L] or null
  void* y;                   // [B, L, H]
  void* h;                   // [B, H], updated
  void* activated;           // [B, L, 4H]: r, z, n, q; or null: not kept
  void* hidden_states;       // [B, L, H] or null
};

// `element` is the type of grad_y.
struct GruScanStepBackward {
  int64_t batch, length, hidden;
  int64_t step;
  cuda::Element element;
  const void* activated;      // [B, L, 4H]
  const void* hidden_states;  // [B, L, H]
  const void* h0;             // [B, H] or null
  const int64_t* positions;   // [B, L] or null
  const void* grad_y;         // [B, L, H], units contiguous
  int64_t grad_y_row, grad_y_time;
  void* grad_h;  // [B, H]: of h_t from later tokens (recurrent::carried_gradient); then that of h_{t-1}, less the
                 // part through the product
  void* grad_products;  // [B, L, 3H]: of W_hr h, W_hz h and q
  void* grad_n;         // [B, L, H]: of gates_n; those of gates_r and gates_z are the products'
  void* previous_h;     // [B, L, H]: h_{t-1}, 0 at padding
};

// Enqueue the step on `stream` (a cudaStream_t) of the current device. Return null, or CUDA's words for what went
// wrong.
const char* gru_scan_step_cuda(const GruScanStep& p, void* stream);
const char* gru_scan_step_backward_cuda(const GruScanStepBackward& p, void* stream);

}  // namespace hippodrome
