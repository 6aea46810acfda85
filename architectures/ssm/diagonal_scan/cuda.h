// Entries of the CUDA kernels of the diagonal scan (op.h). No CUDA and no LibTorch headers, so that both sides can
// include it.
#pragma once

#include <cstdint>

#include "core/cuda/block.h"

namespace hippodrome {

// Channels of a block, one for each lane of its warps.
inline constexpr int64_t kDiagonalScanCudaChannels = 32;

// How a launch cuts the sequence: each segment is a block's, for 32 channels of a row.
struct DiagonalScanSegments {
  int64_t count, length;
};
// One segment where the rows and channels alone make 132 blocks (a Hopper GPU has 132 multiprocessors) or the sequence
// is too short to be worth the pass over it that finds the states between segments; else enough segments for 264
// blocks, of at least 256 tokens. Of the shape only, so that the same call gives the same bits on any GPU.
inline DiagonalScanSegments diagonal_scan_segments(int64_t batch, int64_t channels, int64_t length) {
  constexpr int64_t kEnough = 132, kWanted = 264, kLeastTokens = 256, kLeastSegments = 4, kMultiple = 32;
  const int64_t blocks = batch * cuda::ceil_div(channels, kDiagonalScanCudaChannels);
  if (blocks == 0 || blocks >= kEnough || length < kLeastSegments * kLeastTokens) return {1, length};
  const int64_t by_blocks = cuda::ceil_div(kWanted, blocks), by_tokens = length / kLeastTokens;
  const int64_t count = by_blocks < by_tokens ? by_blocks : by_tokens;
  if (count < kLeastSegments) return {1, length};
  const int64_t segment = cuda::ceil_div(cuda::ceil_div(length, count), kMultiple) * kMultiple;
  return {cuda::ceil_div(length, segment), segment};
}

// [B, L, D] with contiguous channels; strides in elements.
struct DiagonalScanRows {
  const void* data = nullptr;
  int64_t batch = 0, time = 0;
};

// Device pointers. u, y and their gradients are of type `element` (float32, bfloat16 or float64); everything else is of
// the compute type, float64 with float64 and float32 otherwise. More than 32 states need element = compute type.
struct DiagonalScanProblem {
  cuda::Element element = cuda::Element::kFloat;
  int64_t batch = 0, channels = 0, length = 0, states = 0;  // B, D, L, N
  DiagonalScanSegments segments = {1, 0};
  DiagonalScanRows u;                     // [B, L, D]
  const void* parameters[6] = {};         // a, b, c, real before imaginary; each [D, N]
  const void* state = nullptr;            // [B, D, N, 2] or null for zeros
  const int64_t* positions = nullptr;     // [B, L] or null
  const void* grad_last_state = nullptr;  // [B, D, N, 2]; of backward
  DiagonalScanRows grad_y;                // [B, L, D]; of backward
  // With several segments, else null: tokens that count of each, or -1 where a sequence begins in it [B, segments]; x
  // before each segment [B, segments, N, 2, D], in backward also ∂x/∂a [B, segments, N, 4, D]; and λ behind it.
  int64_t* tokens = nullptr;
  void* before = nullptr;
  void* behind = nullptr;   // [B, segments, N, 2, D]; of backward
  int64_t first_state = 0;  // where a launch's states begin; set by the launching code
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
