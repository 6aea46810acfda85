// Entry of the CUDA forward kernel. No CUDA and no LibTorch headers, so that both sides can include it.
#pragma once

#include <cstdint>

#include "architectures/ssm/selective_scan/op.h"

namespace hippodrome::s6 {

// Element type of u, delta, z, B, C and y; the rest, the states included, is float32.
enum class CudaType { kFloat, kBFloat16, kHalf };

// Device pointers. Absent inputs are null. Strides in elements; layouts as in Params.
struct CudaForward {
  int64_t batch = 0;
  int64_t channels = 0;
  int64_t length = 0;
  int64_t groups = 1;
  int64_t states = 0;
  bool delta_softplus = false;
  CudaType type = CudaType::kFloat;

  Strided<const void> u;      // [B, L, D]
  Strided<const void> delta;  // [B, L, D]
  Strided<const void> z;      // [B, L, D] or null
  const float* A = nullptr;   // [D, N] contiguous
  Strided<const void> B;      // [B, L, N] of group 0
  Strided<const void> C;
  int64_t B_group = 0;  // stride between groups
  int64_t C_group = 0;
  const float* D = nullptr;              // [D] or null
  const float* delta_bias = nullptr;     // [D] or null
  const float* initial_state = nullptr;  // [B, D, N] or null
  const int64_t* positions = nullptr;    // [B, L] or null
  void* y = nullptr;                     // [B, L, D] contiguous
  float* last_state = nullptr;           // [B, D, N]
  float* checkpoints = nullptr;          // [B, ceil(L / kChunk), N, D] or null
};

// Enqueues the kernel on `stream` (a cudaStream_t) of the current device. Returns null, or CUDA's words for what went
// wrong.
const char* forward_cuda(const CudaForward& p, void* stream);

}  // namespace hippodrome::s6
