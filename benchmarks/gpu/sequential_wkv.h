// WKV-4 as RWKV publishes it, the rival of our kernels (architectures/rwkv/wkv4): a thread takes a row and channel
// through all of time, so that there is no more parallel work than batch * channels. After the algorithm of
// BlinkDL/RWKV-CUDA, written anew; equations are those of architectures/rwkv/wkv4/op.h.
//
// One thing is kinder to it than its own code: what backward keeps of every step lies in memory, channels side by side,
// where the published kernel has arrays of a thread, of a length fixed at compile time.
//
// No CUDA and no LibTorch headers.
#pragma once

#include <cstdint>

#include "core/cuda/element.h"

namespace hippodrome::sequential_wkv {

// Contiguous arrays of `type`; "scalar" stands for float, or double where `type` is kDouble. A fresh state at the start
// of every row, and no gradient of the last state, as published.
struct Inputs {
  int64_t batch = 0, time = 0, channels = 0;
  cuda::Element type = cuda::Element::kFloat;
  const void* w = nullptr;  // [C] scalar, negative
  const void* u = nullptr;  // [C] scalar
  const void* k = nullptr;  // [B, T, C]
  const void* v = nullptr;  // [B, T, C]
};
struct Forward : Inputs {
  void* y = nullptr;  // [B, T, C]
};
struct Backward : Inputs {
  const void* y = nullptr;       // [B, T, C]
  const void* grad_y = nullptr;  // [B, T, C]
  void* kept = nullptr;          // [2, B, T, C] scalar: what the walk back needs of the walk forward
  void* grad_w_rows = nullptr;   // [B, C] scalar, to be summed over B
  void* grad_u_rows = nullptr;   // [B, C] scalar, likewise
  void* grad_k = nullptr;        // [B, T, C]
  void* grad_v = nullptr;        // [B, T, C]
};

// Enqueue on `stream` (a cudaStream_t) of the current device. Null, or CUDA's words for what went wrong.
const char* forward_cuda(const Forward& p, void* stream);
const char* backward_cuda(const Backward& p, void* stream);

}  // namespace hippodrome::sequential_wkv
