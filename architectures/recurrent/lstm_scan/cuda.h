// Entries of the CUDA kernels of lstm_scan: the elementwise part of one time step (op.h has the equations). No CUDA and
// no LibTorch headers, so that both sides can include it.
#pragma once

#include "architectures/recurrent/step.h"

namespace hippodrome {

// Gates and what is kept of them: i, f, g, o; states: c.
struct LstmScanStep : recurrent::Step {
  void* c = nullptr;  // [B, H], updated
};

struct LstmScanStepBackward : recurrent::StepBackward {
  const void* c0 = nullptr;  // [B, H] or null
  void* grad_c = nullptr;    // [B, H]: of c_t from later tokens, then of c_{t-1}
};

// Enqueue the step on `stream` (a cudaStream_t) of the current device. Return null, or CUDA's words for what went
// wrong.
const char* lstm_scan_step_cuda(const LstmScanStep& p, void* stream);
const char* lstm_scan_step_backward_cuda(const LstmScanStepBackward& p, void* stream);

}  // namespace hippodrome
