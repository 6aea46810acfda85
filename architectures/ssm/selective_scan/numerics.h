// The arithmetic and the index arithmetic of the CUDA kernel as plain functions, so that a machine without a GPU tests
// them too. No LibTorch and no CUDA headers here.
#pragma once

#include <cmath>
#include <cstdint>

#include "architectures/ssm/selective_scan/op.h"

#ifdef __CUDACC__
#define HIPPODROME_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define HIPPODROME_HOST_DEVICE inline
#endif

namespace hippodrome::s6 {

// Threads of a block, one channel each: few, so that 1,536 channels still spread over 24 multiprocessors.
inline constexpr int kCudaThreads = 64;
// B and C of a tile of steps take 2 * kCudaTileValues floats (32 KiB) of shared memory.
inline constexpr int64_t kCudaTileValues = 4096;

// States a thread keeps in registers are in fully unrolled loops. More than 64 do not fit: they live in local memory,
// and unrolling their loops would only make the compiler take minutes.
template <int kStates>
inline constexpr int kCudaUnroll = kStates <= 64 ? kStates : 4;

// Steps of a tile when a state takes `padded_states` places: a divisor of kChunk, so that a checkpoint falls on a
// tile's edge.
HIPPODROME_HOST_DEVICE int64_t cuda_tile_steps(int64_t padded_states) {
  const int64_t fit = kCudaTileValues / padded_states;
  return fit < kChunk ? fit : kChunk;
}

// Blocks of a launch: channels of one group and one batch row each.
HIPPODROME_HOST_DEVICE int64_t cuda_blocks_per_group(int64_t channels, int64_t groups) {
  return (channels / groups + kCudaThreads - 1) / kCudaThreads;
}

// Where block `index` stands and which channel its thread serves; channel -1 where the group has no channel left.
struct CudaPlace {
  int64_t batch;
  int64_t group;
  int64_t channel;
};
HIPPODROME_HOST_DEVICE CudaPlace cuda_place(int64_t index, int64_t thread, int64_t channels, int64_t groups) {
  const int64_t per_group = channels / groups;
  const int64_t blocks = cuda_blocks_per_group(channels, groups);
  const int64_t group = index / blocks % groups;
  const int64_t inside = index % blocks * kCudaThreads + thread;
  return {index / (blocks * groups), group, inside < per_group ? group * per_group + inside : -1};
}

// Element (b, t, i) of a Strided tensor; 64-bit, since real tensors pass 2^31 elements.
HIPPODROME_HOST_DEVICE int64_t strided_index(int64_t batch_stride, int64_t time_stride, int64_t b, int64_t t,
                                             int64_t i) {
  return b * batch_stride + t * time_stride + i;
}

// Row (b, chunk, state 0) of the checkpoints [B, ceil(L / kChunk), N, D].
HIPPODROME_HOST_DEVICE int64_t cuda_checkpoint_index(int64_t length, int64_t states, int64_t channels, int64_t b,
                                                     int64_t chunk) {
  return (b * ((length + kChunk - 1) / kChunk) + chunk) * states * channels;
}

HIPPODROME_HOST_DEVICE float cuda_softplus(float x) { return x > 20.0f ? x : log1pf(expf(x)); }

HIPPODROME_HOST_DEVICE float cuda_silu(float x) { return x / (1.0f + expf(-x)); }

// A is kept times log2 e, so that the decay is one exp2.
HIPPODROME_HOST_DEVICE float cuda_scaled_decay(float A) { return A * 1.44269504f; }

// One step of one channel: h <- exp(delta A) h + delta B u, and the return value is sum_n C h. Places past the number
// of states hold zeros in B and C, hence stay zero.
template <int kStates>
HIPPODROME_HOST_DEVICE float cuda_step(float delta, float u, const float* scaled_A, const float* B, const float* C,
                                       float* h) {
  const float delta_u = delta * u;
  float y = 0.0f;
#ifdef __CUDA_ARCH__
#pragma unroll kCudaUnroll < kStates>
#endif
  for (int n = 0; n < kStates; ++n) {
    h[n] = exp2f(delta * scaled_A[n]) * h[n] + delta_u * B[n];
    y += C[n] * h[n];
  }
  return y;
}

}  // namespace hippodrome::s6
