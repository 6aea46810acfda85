// Entries of the CUDA kernels of gru_scan: the elementwise part of one time step (op.h has the equations). No CUDA and
// no LibTorch headers, so that both sides can include it.
#pragma once

#include "architectures/recurrent/step.h"

namespace hippodrome {

// Gates: r, z, n; kept of them: r, z, n, q; states: h.
struct GruScanStep : recurrent::Step {
  const void* bias_hn = nullptr;  // [H]
};

struct GruScanStepBackward : recurrent::StepBackward {
  void* grad_n = nullptr;  // [B, L, H], 0 on entry: of gates_n; those of gates_r and gates_z are the products'
};

// Enqueue the step on `stream` (a cudaStream_t) of the current device. Return null, or CUDA's words for what went
// wrong.
const char* gru_scan_step_cuda(const GruScanStep& p, void* stream);
const char* gru_scan_step_backward_cuda(const GruScanStepBackward& p, void* stream);

}  // namespace hippodrome
