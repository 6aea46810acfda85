// Entries of the CUDA kernels of gated_rms_norm. No CUDA and no LibTorch headers, so that both sides can include it.
#pragma once

#include <cstdint>

#include "architectures/ssm/gated_rms_norm/op.h"
#include "core/cuda/block.h"

namespace hippodrome::gated_rms_norm_op {

// Row r begins `stride` elements behind the one before it and is contiguous.
struct CudaRows {
  const void* data = nullptr;
  int64_t stride = 0;
};

// Device pointers. x, z, y and their gradients are of type `element`, the rest of its ScalarOf; layouts as in op.h.
struct CudaForward {
  Sizes sizes;
  cuda::Element element = cuda::Element::kFloat;
  CudaRows x, z;                 // [n, W]
  const void* weight = nullptr;  // [W]
  void* y = nullptr;             // [n, W]
  void* scale = nullptr;         // [n, G]
};

struct CudaBackward {
  Sizes sizes;
  cuda::Element element = cuda::Element::kFloat;
  CudaRows x, z, grad_y;         // [n, W]
  const void* weight = nullptr;  // [W]
  const void* scale = nullptr;   // [n, G]
  void* grad_x = nullptr;        // [n, W]
  void* grad_z = nullptr;        // [n, W]
  int64_t parts = 1;             // cuda_parts()
  void* grad_weight = nullptr;   // [parts, W], to be added over parts
};

// A group up to this wide is one warp's, which holds it in registers; a wider one is a block's.
inline int64_t widest_of_warp(cuda::Element element) {
  return element == cuda::Element::kBFloat16 || element == cuda::Element::kHalf ? 1024 : 512;
}

// How many runs of rows backward sums the weight's gradient over: enough to fill a GPU, and at least 8 rows each. It
// depends on the shape and the type alone, and so do the sums.
inline int64_t cuda_parts(const Sizes& s, cuda::Element element) {
  const int64_t most = (s.group_width() <= widest_of_warp(element) ? 8192 : 1024) / s.groups;
  const int64_t wanted = cuda::ceil_div(s.rows, 8), parts = wanted < most ? wanted : most;
  return parts < 1 ? 1 : parts;
}

// Enqueue on `stream` (a cudaStream_t) of the current device. Return null, or CUDA's words for what went wrong.
const char* gated_rms_norm_forward_cuda(const CudaForward& p, void* stream);
const char* gated_rms_norm_backward_cuda(const CudaBackward& p, void* stream);

}  // namespace hippodrome::gated_rms_norm_op
