// Entries of the CUDA kernels of causal_conv1d. No CUDA and no LibTorch headers, so that both sides can include it.
#pragma once

#include <cstdint>

#include "architectures/ssm/token_list.h"
#include "core/cuda/element.h"

namespace hippodrome {

// Element (b, t, c) is data[b * batch_stride + t * row_stride + c].
struct CausalConv1dCudaSequence {
  const void* data = nullptr;
  int64_t batch_stride = 0, row_stride = 0;
};

// Device pointers. x, y and their gradients are of type `element`, the rest of its ScalarOf. Strides in elements;
// layouts as in op.h.
struct CausalConv1dCudaForward {
  int64_t batch = 0, channels = 0, time = 0, taps = 0;
  bool silu = false;
  cuda::Element element = cuda::Element::kFloat;
  cuda::TokenList tokens;  // of B rows of L
  CausalConv1dCudaSequence x;
  const void* weight = nullptr;         // [D, K]
  const void* bias = nullptr;           // [D] or null
  const void* initial_state = nullptr;  // [B, D, K-1] or null: zeros
  void* y = nullptr;                    // [B, L, D]
  void* final_state = nullptr;          // [B, D, K-1]; may be the initial state
};

struct CausalConv1dCudaBackward {
  CausalConv1dCudaForward forward;         // without outputs
  CausalConv1dCudaSequence grad_y;         // data may be null: 0
  const void* grad_final_state = nullptr;  // [B, D, K-1] or null: 0
  void* grad_x = nullptr;                  // [B, L, D]
  // [causal_conv1d_gradient_rows(B, L), K + 1, D]: gradients of the taps, then of the bias; to be summed over rows.
  void* grad_parameter_rows = nullptr;
  void* grad_initial_state = nullptr;  // [B, D, K-1]
};

// Steps of a tile of backward, whose sums over time are a row.
inline constexpr int64_t kCausalConv1dCudaTile = 64;
inline int64_t causal_conv1d_gradient_rows(int64_t batch, int64_t time) {
  return batch * (time == 0 ? 1 : cuda::ceil_div(time, kCausalConv1dCudaTile));
}

// Enqueue on `stream` (a cudaStream_t) of the current device. Return null, or CUDA's words for what went wrong.
const char* causal_conv1d_forward_cuda(const CausalConv1dCudaForward& p, void* stream);
const char* causal_conv1d_backward_cuda(const CausalConv1dCudaBackward& p, void* stream);

}  // namespace hippodrome
