// Entry points of the CUDA kernels of wkv4 (op.h has the equations), without types: no CUDA and no LibTorch headers.
//
// Two forms, chosen by the shape alone. Where batch * channels fills a GPU, one thread takes a row and channel through
// time (one segment). Where it does not and the sequence is long, time is cut into segments, too. A segment is an
// element of an associative operation: `decay` is the sum of its steps' w, or -inf where a sequence starts inside, and
// (n, d, m) what its tokens alone make of a fresh state:
//
//   left . right:   m = max(m_l + decay_r, m_r)          f1 = e^{m_l + decay_r - m}       f2 = e^{m_r - m}
//                   n = f1 n_l + f2 n_r                  d = f1 d_l + f2 d_r              decay = decay_l + decay_r
//
// Three launches: the segments' summaries; their walk, which leaves the state before each segment; the outputs. The
// gradients (gn, gd, gm) of op.h run the other way and are affine in those behind a segment, so they go alike: a
// summary is (product of f1, gn and gd from zero behind the segment, whether gm passes, and what
// keeps gw exact at the segment's end).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "architectures/rwkv/wkv4/op.h"
#include "core/cuda/element.h"

namespace hippodrome {

// Tokens of a segment for this shape: all of them, or a multiple of kWkv4Chunk. At least 1.
//
// Of 2^15 (row, channel) pairs or more each takes one thread, about 250 to a multiprocessor of an H100: the arithmetic
// of one hides the latency of another, and segments would read k and v a second time. With fewer, segments make up to
// 2^17 threads, but never more segments than one has tokens, so that the walk over segments is no longer than that over
// a segment's tokens. The numbers are reasoned, not measured.
inline int64_t wkv4_cuda_segment(int64_t batch, int64_t channels, int64_t time) {
  constexpr int64_t kEnough = int64_t{1} << 15, kThreads = int64_t{1} << 17;
  const int64_t pairs = std::max<int64_t>(1, batch * channels);
  if (pairs >= kEnough || time < 4 * kWkv4Chunk) return std::max<int64_t>(1, time);
  const int64_t segments = kThreads / pairs;
  const auto root = static_cast<int64_t>(std::ceil(std::sqrt(static_cast<double>(time))));
  return wkv4_chunks(std::max((time + segments - 1) / segments, root)) * kWkv4Chunk;
}

// [B, T, C] with neighbouring channels; strides in elements. Elements are those of `type` below.
struct Wkv4Tokens {
  const void* data = nullptr;
  int64_t batch = 0, time = 0;
};

// `Scalar` stands for float, or for double where `type` is kDouble. Null pointers as in Wkv4Forward.
struct Wkv4CudaForward {
  int64_t batch = 0, time = 0, channels = 0;
  int64_t segment = 1;  // wkv4_cuda_segment, or any other number of its kind
  cuda::Element type = cuda::Element::kFloat;
  const void* w = nullptr;  // [C] Scalar
  const void* u = nullptr;  // [C] Scalar
  Wkv4Tokens k, v;
  const void* state = nullptr;  // [B, 3, C] Scalar or null
  const int64_t* positions = nullptr;
  void* y = nullptr;            // [B, T, C] of `type`
  void* last_state = nullptr;   // [B, 3, C] Scalar
  void* checkpoints = nullptr;  // [B, chunks, 3, C] Scalar or null
  void* workspace = nullptr;    // [B, segments - 1, 4, C] Scalar
};

struct Wkv4CudaBackward {
  int64_t batch = 0, time = 0, channels = 0;  // time > 0
  int64_t segment = 1;                        // need not be the forward pass's
  cuda::Element type = cuda::Element::kFloat;
  const void* w = nullptr;
  const void* u = nullptr;
  Wkv4Tokens k, v, grad_y;
  const void* state = nullptr;
  const int64_t* positions = nullptr;
  const void* checkpoints = nullptr;      // of the forward pass
  const void* grad_last_state = nullptr;  // [B, 3, C] Scalar or null: 0
  void* grad_w_parts = nullptr;           // [B, segments, C] Scalar, to be summed over the first two axes
  void* grad_u_parts = nullptr;           // [B, segments, C] Scalar, likewise
  void* grad_k = nullptr;                 // [B, T, C] of `type`
  void* grad_v = nullptr;                 // [B, T, C] of `type`
  void* grad_state = nullptr;             // [B, 3, C] Scalar
  void* workspace = nullptr;              // [B, segments - 1, 6, C] Scalar
};

// At least one, so that an empty sequence hands its state on.
inline int64_t wkv4_cuda_segments(int64_t time, int64_t segment) {
  return std::max<int64_t>(1, (time + segment - 1) / segment);
}

// Enqueue on `stream` (a cudaStream_t) of the current device. Null, or CUDA's words for what went wrong.
const char* wkv4_forward_cuda(const Wkv4CudaForward& p, void* stream);
const char* wkv4_backward_cuda(const Wkv4CudaBackward& p, void* stream);

}  // namespace hippodrome
