// Entries of the CUDA kernels of causal_fir. No CUDA and no LibTorch headers, so that both sides can include it.
#pragma once

#include <cstdint>

#include "architectures/ssm/token_list.h"

namespace hippodrome {

// Device pointers, all float32 or, where `is_double`, all float64; layouts as in op.h.
struct CausalFirCudaForward {
  int64_t batch = 0, channels = 0, length = 0, taps = 0;  // B, D, L, K
  bool is_double = false;
  cuda::TokenList tokens;        // of B rows of L
  const void* x = nullptr;       // [B, L, D]
  const void* weight = nullptr;  // [K, D], the newest input's first
  const void* state = nullptr;   // [B, K, D] or null for zeros
  void* y = nullptr;             // [B, L, D]
  void* last_state = nullptr;    // [B, K, D]
};

struct CausalFirCudaBackward {
  CausalFirCudaForward forward;           // without outputs
  const void* grad_y = nullptr;           // [B, L, D]
  const void* grad_last_state = nullptr;  // [B, K, D]
  void* grad_x = nullptr;                 // [B, L, D]
  void* grad_weight_rows = nullptr;       // [B * causal_fir_segments(L, K), K, D], to be summed over rows
  void* grad_state = nullptr;             // [B, K, D]
};

// Tokens whose products are summed before they are written: with many taps more, so that the rows stay a fraction of x.
HIPPODROME_HOST_DEVICE int64_t causal_fir_segment(int64_t taps) { return taps <= 64 ? 512 : 8 * taps; }
HIPPODROME_HOST_DEVICE int64_t causal_fir_segments(int64_t length, int64_t taps) {
  return length == 0 ? 1 : cuda::ceil_div(length, causal_fir_segment(taps));
}

// Enqueue on `stream` (a cudaStream_t) of the current device. Return null, or CUDA's words for what went wrong.
const char* causal_fir_forward_cuda(const CausalFirCudaForward& p, void* stream);
const char* causal_fir_backward_cuda(const CausalFirCudaBackward& p, void* stream);

}  // namespace hippodrome
