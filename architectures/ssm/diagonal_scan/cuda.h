// Entries of the CUDA kernels of the diagonal scan (op.h). No CUDA and no LibTorch headers, so that both sides can
// include it.
#pragma once

#include <cstdint>

#include "architectures/ssm/mode_scan_cuda.h"

namespace hippodrome {

// Channels of a block, one for each lane of its warps.
inline constexpr int64_t kDiagonalScanCudaChannels = 32;

// Two blocks for each multiprocessor, where one is not there without a cut.
inline ScanSegments diagonal_scan_segments(int64_t batch, int64_t channels, int64_t length) {
  const int64_t blocks = batch * cuda::ceil_div(channels, kDiagonalScanCudaChannels);
  return scan_segments(blocks, length, {/*enough=*/132, /*wanted=*/264, /*least_tokens=*/256, /*least_segments=*/4});
}

// [B, L, D] with contiguous channels; strides in elements.
struct DiagonalScanRows {
  const void* data = nullptr;
  int64_t batch = 0, time = 0;
};

// Device pointers. u, y and their gradients are of type `element` (float32, bfloat16 or float64); everything else is of
// the compute type, float64 with float64 and float32 otherwise. More than 32 states need element = compute type.
struct DiagonalScanProblem : ModeScanProblem {
  DiagonalScanRows u;              // [B, L, D]
  const void* parameters[6] = {};  // a, b, c, real before imaginary; each [D, N]
  DiagonalScanRows grad_y;         // [B, L, D]; of backward
  int64_t* tokens = nullptr;  // [B, segments], where there are several: those of each, or -1 where a sequence begins
  int64_t first_state = 0;    // where a launch's states begin; set by the launching code
};

struct DiagonalScanForwardCuda : DiagonalScanProblem {
  void* y = nullptr;           // [B, L, D] contiguous
  void* last_state = nullptr;  // [B, D, N, 2]
};

struct DiagonalScanBackwardCuda : DiagonalScanProblem {
  void* grad_u = nullptr;      // [B, L, D] contiguous
  void* sums = nullptr;        // [B, segments, 6, N, D]: each segment's part of the parameters' gradients
  void* grad_state = nullptr;  // [B, D, N, 2]
};

// Enqueue the kernels on `stream` (a cudaStream_t) of the current device. Return null, or CUDA's words for what went
// wrong.
const char* diagonal_scan_forward_cuda(const DiagonalScanForwardCuda& p, void* stream);
const char* diagonal_scan_backward_cuda(const DiagonalScanBackwardCuda& p, void* stream);

}  // namespace hippodrome
