// Entries of the CUDA kernels of the selective scan, forward and backward. No CUDA and no LibTorch headers, so that
// both sides can include it. Equations: op.h.
#pragma once

#include <algorithm>
#include <cstdint>

#include "architectures/ssm/selective_scan/op.h"
#include "core/cuda/element.h"

namespace hippodrome::s6 {

// Channels of a block of the CUDA kernels, and of those that take complex numbers or zero-order hold. dB and dC are
// summed over them before they are written.
inline constexpr int kCudaChannels = kSuperblock;
inline constexpr int kCudaGeneralChannels = 32;

// States that a block holds in registers: 16, or 8 of double precision. More states are taken in turns.
template <class S>
inline constexpr int kCudaStates = 64 / static_cast<int>(sizeof(S));

// A row is cut into segments where batch * channels leaves a GPU idle: each is summarised by its decay and by what it
// makes of a zero state, the summaries are chained, and all segments run at the same time. That takes each exponential
// of the forward pass twice (of the backward pass, four times in the place of three), so rows stay whole from
// kCudaBusyChannels on; that is one warp on each scheduler of the largest GPU in use (132 * 4 * 32). Below, as many
// segments as make twice that number of threads, each a multiple of kChunk and at least kCudaMinSegment steps, beside
// which its summary is little to read and write. The rule sees shapes alone: a result does not depend on the device.
inline constexpr int64_t kCudaBusyChannels = 16'896;
inline constexpr int64_t kCudaMinSegment = 256;
struct CudaSegments {
  int64_t count = 1;
  int64_t steps = 0;  // of all but the last, which may be shorter
};
inline CudaSegments cuda_segments(int64_t batch, int64_t channels, int64_t length, bool general) {
  const int64_t rows = std::max<int64_t>(1, batch * channels);
  const int64_t wanted = std::min((2 * kCudaBusyChannels + rows - 1) / rows, length / kCudaMinSegment);
  if (general || rows >= kCudaBusyChannels || wanted < 2) return {1, length};
  const int64_t steps = ((length + wanted - 1) / wanted + kChunk - 1) / kChunk * kChunk;
  return {(length + steps - 1) / steps, steps};
}

// Device pointers; absent inputs are null; strides in elements. u, delta, z, B, C and y are of the type `element`,
// everything else is of the scalar that is computed in (float64 for float64, else float32).
struct CudaScan {
  cuda::Element element = cuda::Element::kFloat;
  int64_t batch = 0;
  int64_t channels = 0;
  int64_t length = 0;
  int64_t groups = 1;
  int64_t states = 0;
  bool delta_softplus = false;
  bool complex = false;          // these two take float32 and float64 only
  bool zero_order_hold = false;  //
  CudaSegments segments;

  Strided<const void> u;                // [B, L, D]
  Strided<const void> delta;            // [B, L, D]
  Strided<const void> z;                // [B, L, D] or null
  const void* A = nullptr;              // [D, N] contiguous
  StridedGroups<void> B;                // [B, G, L, N]
  StridedGroups<void> C;                // [B, G, L, N]
  const void* D = nullptr;              // [D] or null
  const void* delta_bias = nullptr;     // [D] or null
  const void* initial_state = nullptr;  // [B, D, N] contiguous or null
  const int64_t* positions = nullptr;   // [B, L] contiguous or null
};

struct CudaForward {
  CudaScan scan;
  void* y = nullptr;            // [B, L, D] contiguous
  void* last_state = nullptr;   // [B, D, N]
  void* checkpoints = nullptr;  // [B, ceil(L / kChunk), N, D] or null
  // Work space, [B, segments, N, D] each: the running states (with several segments or more states than a thread holds)
  // and the decays of the segments (with several).
  void* states = nullptr;
  void* decays = nullptr;
};

// Gradients are written, not added to. Those of A, B, C, D and delta_bias are partial sums, to be added in order.
struct CudaBackward {
  CudaScan scan;
  const void* checkpoints = nullptr;
  Strided<const void> grad_y;             // [B, L, D] of the type `element`, or null (zeros)
  const void* grad_last_state = nullptr;  // [B, D, N] or null (zeros)

  void* u = nullptr;  // [B, L, D] contiguous, of the type `element`, as are delta and z
  void* delta = nullptr;
  void* z = nullptr;              // null where there is no gate
  void* initial_state = nullptr;  // [B, D, N] or null
  void* A = nullptr;              // [B, segments, N, D]
  void* B = nullptr;              // [B, G, blocks of channels, L, N], as is C
  void* C = nullptr;
  void* D = nullptr;           // [B, segments, D], as is delta_bias
  void* delta_bias = nullptr;  // both always
  // Work space: the gradients carried to earlier steps and the decays of the segments, as the states of CudaForward;
  // and cuda_scratch() scalars.
  void* carries = nullptr;
  void* decays = nullptr;
  void* scratch = nullptr;
};

inline int64_t cuda_blocks_of_channels(int64_t channels, int64_t groups, bool general) {
  const int64_t size = general ? kCudaGeneralChannels : kCudaChannels;
  return (channels / groups + size - 1) / size;
}
// For sums over states that are taken in turns: three of each step of a chunk; the general kernel keeps more there.
inline int64_t cuda_scratch(const CudaScan& p, int64_t states_at_once) {
  const bool general = p.complex || p.zero_order_hold;
  if (!general && p.states <= states_at_once) return 0;
  return p.batch * p.segments.count * p.groups * cuda_blocks_of_channels(p.channels, p.groups, general) * kChunk *
         (general ? 5 * kCudaGeneralChannels : 3 * kCudaChannels);
}

// Enqueue kernels on `stream` (a cudaStream_t) of the current device. Null, or CUDA's words for what went wrong.
const char* forward_cuda(const CudaForward& p, void* stream);
const char* backward_cuda(const CudaBackward& p, void* stream);

}  // namespace hippodrome::s6
