// Entries of the CUDA kernels of the scan with a matrix that is diagonal plus low rank (op.h). No CUDA and no LibTorch
// headers, so that both sides can include it.
#pragma once

#include <cstdint>

#include "core/cuda/block.h"

namespace hippodrome {

// States of a channel that a block's registers hold.
inline constexpr int64_t kDplrScanCudaStates = 512;

// Device pointers. All numbers are of type `element`, float32 or float64; complex numbers are pairs, real before
// imaginary; tensors are contiguous.
struct DplrScanProblem {
  cuda::Element element = cuda::Element::kFloat;
  int64_t batch = 0, channels = 0, length = 0, states = 0, rank = 0;  // B, D, L, N ≤ 512, R ≤ 2
  const void* u = nullptr;                                            // [B, L, D]
  const void *a = nullptr, *b = nullptr, *c = nullptr;                // each [D, N, 2]
  const void *q = nullptr, *w = nullptr;                              // each [D, R, N, 2]
  const void* state = nullptr;                                        // [B, D, N, 2] or null for zeros
  const int64_t* positions = nullptr;                                 // [B, L] or null
};

struct DplrScanForwardCuda : DplrScanProblem {
  void* y = nullptr;           // [B, L, D]
  void* last_state = nullptr;  // [B, D, N, 2]
  void* readouts = nullptr;    // [B, L, R, D]: s of each token, for backward; or null
};

struct DplrScanBackwardCuda : DplrScanProblem {
  const void* readouts = nullptr;                                // as above
  const void* grad_y = nullptr;                                  // [B, L, D]
  const void* grad_last_state = nullptr;                         // [B, D, N, 2]
  void* sigma = nullptr;                                         // [B, L, R, D]: scratch, σ of each token
  void* grad_u = nullptr;                                        // [B, L, D]
  void *grad_a = nullptr, *grad_b = nullptr, *grad_c = nullptr;  // each [B, D, N, 2], to be summed over the rows
  void *grad_q = nullptr, *grad_w = nullptr;                     // each [B, D, R, N, 2], the same
  void* grad_state = nullptr;                                    // [B, D, N, 2]
};

// Enqueue the kernels on `stream` (a cudaStream_t) of the current device. Return null, or CUDA's words for what went
// wrong.
const char* dplr_scan_forward_cuda(const DplrScanForwardCuda& p, void* stream);
const char* dplr_scan_backward_cuda(const DplrScanBackwardCuda& p, void* stream);

}  // namespace hippodrome
