// Entries of the CUDA kernels of lstm_scan: the elementwise part of one time step (op.h has the equations). No CUDA and
// no LibTorch headers, so that both sides can include it.
#pragma once

#include <cstdint>

#include "core/cuda/element.h"

namespace hippodrome {

// Device pointers. `element` is the type of gates and y; all else is float32, float64 where that is float64. Without a
// comment on its strides an array is contiguous.
struct LstmScanStep {
  int64_t batch, length, hidden;  // B, L, H
  int64_t step;                   // t
  cuda::Element element;
  const void* gates;  // [B, L, 4H], order i, f, g, o; units contiguous
  int64_t gates_row, gates_time;
  const void* product;       // [B, 4H]: W_hh h_{t-1}
  const int64_t* positions;  // [B, L] or null
  void* y;                   // [B, L, H]
  void* h;                   // [B, H], written where the token is not padding
  void* c;                   // [B, H], updated
  void* activated;           // [B, L, 4H] or null: not kept
  void* cells;               // [B, L, H] or null
};

// `element` is the type of grad_y.
struct LstmScanStepBackward {
  int64_t batch, length, hidden;
  int64_t step;
  cuda::Element element;
  const void* activated;     // [B, L, 4H]
  const void* cells;         // [B, L, H]
  const void* h0;            // [B, H] or null
  const void* c0;            // [B, H] or null
  const int64_t* positions;  // [B, L] or null
  const void* grad_y;        // [B, L, H], units contiguous
  int64_t grad_y_row, grad_y_time;
  void* grad_h;      // [B, H]: of h_t from later tokens (recurrent::carried_gradient); then that of h_{t-1}, less the
                     // part through the product
  void* grad_c;      // [B, H]: of c_t from later tokens, then of c_{t-1}
  void* grad_gates;  // [B, L, 4H]
  void* previous_h;  // [B, L, H]: h_{t-1}, 0 at padding
};

// Enqueue the step on `stream` (a cudaStream_t) of the current device. Return null, or CUDA's words for what went
// wrong.
const char* lstm_scan_step_cuda(const LstmScanStep& p, void* stream);
const char* lstm_scan_step_backward_cuda(const LstmScanStepBackward& p, void* stream);

}  // namespace hippodrome
