// Entries of the CUDA kernels of the Cauchy sums (op.h). No CUDA and no LibTorch headers, so that both sides can
// include it.
#pragma once

#include <cstdint>

#include "core/cuda/block.h"

namespace hippodrome {

// Rows of weights that share a pass over the resolvents.
inline constexpr int64_t kCauchyCudaRows = 4;
// Nodes of a block of backward; the sums over longer stretches are added up afterwards.
inline constexpr int64_t kCauchyCudaNodes = 2048;

// Device pointers. All numbers are of type `element`, float32 or float64; complex numbers are pairs, real before
// imaginary.
struct CauchyProblem {
  cuda::Element element = cuda::Element::kDouble;
  int64_t channels = 0, rows = 0, states = 0, length = 0;  // H, M, N, L; nodes K = L/2 + 1
  const void* v = nullptr;                                 // [H, M, N, 2]
  const void* lambda = nullptr;                            // [H, N, 2]
};
inline int64_t cauchy_cuda_row_blocks(const CauchyProblem& p) { return cuda::ceil_div(p.rows, kCauchyCudaRows); }
inline int64_t cauchy_cuda_splits(const CauchyProblem& p) { return cuda::ceil_div(p.length / 2 + 1, kCauchyCudaNodes); }

struct CauchyForwardCuda : CauchyProblem {
  void* sums = nullptr;  // [H, M, K, 2]
};

struct CauchyBackwardCuda : CauchyProblem {
  const void* grad_sums = nullptr;  // [H, M, K, 2]
  void* grad_v = nullptr;           // [splits, H, M, N, 2], to be summed over the splits
  void* grad_lambda = nullptr;      // [splits · row blocks, H, N, 2], to be summed over the first axis
};

// Enqueue the kernels on `stream` (a cudaStream_t) of the current device. Return null, or CUDA's words for what went
// wrong.
const char* cauchy_forward_cuda(const CauchyForwardCuda& p, void* stream);
const char* cauchy_backward_cuda(const CauchyBackwardCuda& p, void* stream);

}  // namespace hippodrome
