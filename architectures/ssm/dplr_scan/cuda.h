// Entries of the CUDA kernels of the scan with a matrix that is diagonal plus low rank (op.h). No CUDA and no LibTorch
// headers, so that both sides can include it.
#pragma once

#include <cstdint>

#include "architectures/ssm/mode_scan_cuda.h"

namespace hippodrome {

// States of a channel that a block's registers hold.
inline constexpr int64_t kDplrScanCudaStates = 512;
// Most states whose sequences are cut: a step's matrix to the power of a segment, of 2 N x 2 N reals, is kept for each
// channel, and lies in a block's shared memory.
inline constexpr int64_t kDplrScanCutStates = 64;
// The shape of blocks for up to 32, up to 128 and up to 512 states: threads for each channel, threads.
struct DplrScanBlock {
  int64_t group, threads;
};
constexpr DplrScanBlock dplr_scan_block(int64_t states) {
  return states <= 32 ? DplrScanBlock{8, 64} : states <= 128 ? DplrScanBlock{32, 128} : DplrScanBlock{128, 128};
}

// Tokens follow each other at the pace of sums over a channel's states, so that a multiprocessor has time for many
// blocks at once, and a cut pays long before there are as many blocks as multiprocessors. Not where positions are
// given: the passage through a segment, the same for all, is that of its tokens without a start or padding.
inline ScanSegments dplr_scan_segments(int64_t batch, int64_t channels, int64_t length, int64_t states,
                                       bool positions) {
  const DplrScanBlock block = dplr_scan_block(states);
  const int64_t blocks = batch * cuda::ceil_div(channels, block.threads / block.group);
  if (positions || states > kDplrScanCutStates) return {1, length};
  return scan_segments(blocks, length, {/*enough=*/264, /*wanted=*/2112, /*least_tokens=*/128, /*least_segments=*/16});
}

// Device pointers. All numbers are of type `element`, float32 or float64; complex numbers are pairs, real before
// imaginary; tensors are contiguous. N ≤ 512, R ≤ 2.
struct DplrScanProblem : ModeScanProblem {
  int64_t rank = 0;                                     // R
  const void* u = nullptr;                              // [B, L, D]
  const void *a = nullptr, *b = nullptr, *c = nullptr;  // each [D, N, 2]
  const void *q = nullptr, *w = nullptr;                // each [D, R, N, 2]
  // Scratch [2 N, D, N, 2] where there are several segments: what becomes of each unit vector in one without inputs.
  void* passage = nullptr;
  const void* grad_y = nullptr;  // [B, L, D]; of backward
};

struct DplrScanForwardCuda : DplrScanProblem {
  void* y = nullptr;           // [B, L, D]
  void* last_state = nullptr;  // [B, D, N, 2]
  void* readouts = nullptr;    // [B, L, R, D]: s of each token, for backward; or null
};

struct DplrScanBackwardCuda : DplrScanProblem {
  const void* readouts = nullptr;                                // as above
  void* sigma = nullptr;                                         // [B, L, R, D]: scratch, σ of each token
  void* grad_u = nullptr;                                        // [B, L, D]
  void *grad_a = nullptr, *grad_b = nullptr, *grad_c = nullptr;  // each [B, segments, D, N, 2], to be summed
  void *grad_q = nullptr, *grad_w = nullptr;                     // each [B, segments, D, R, N, 2], the same
  void* grad_state = nullptr;                                    // [B, D, N, 2]
};

// Enqueue the kernels on `stream` (a cudaStream_t) of the current device. Return null, or CUDA's words for what went
// wrong.
const char* dplr_scan_forward_cuda(const DplrScanForwardCuda& p, void* stream);
const char* dplr_scan_backward_cuda(const DplrScanBackwardCuda& p, void* stream);

}  // namespace hippodrome
