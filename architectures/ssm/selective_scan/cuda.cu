// Selective scan on the GPU: forward, sequential in time. One thread is one channel with its states in registers; the B
// and C of a tile of steps are staged in shared memory once for all channels of the block. This shape does no redundant
// work and suits decoding and many rows; a long single row is limited by the latency of the recurrence.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include "architectures/ssm/selective_scan/cuda.h"
#include "architectures/ssm/selective_scan/numerics.h"

namespace hippodrome::s6 {
namespace {

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float to_float(__half x) { return __half2float(x); }
__device__ __forceinline__ void from_float(float x, float* to) { *to = x; }
__device__ __forceinline__ void from_float(float x, __nv_bfloat16* to) { *to = __float2bfloat16(x); }
__device__ __forceinline__ void from_float(float x, __half* to) { *to = __float2half(x); }

// Steps whose u, delta and z are loaded before the first of them is used, to hide the latency of memory. Many states
// are enough work by themselves.
template <int kStates>
constexpr int kAheadOf = kStates <= 32 ? 4 : 1;

template <int kStates, class T>
__global__ void __launch_bounds__(kCudaThreads) forward_kernel(const CudaForward p) {
  constexpr int kAhead = kAheadOf<kStates>;
  extern __shared__ float tile[];  // B [steps][kStates], then C likewise, then positions
  const int64_t tile_steps = cuda_tile_steps(kStates);
  float* const tile_B = tile;
  float* const tile_C = tile + tile_steps * kStates;
  int64_t* const tile_position = reinterpret_cast<int64_t*>(tile_C + tile_steps * kStates);

  const CudaPlace place = cuda_place(blockIdx.x, threadIdx.x, p.channels, p.groups);
  const bool active = place.channel >= 0;
  const int64_t b = place.batch;
  const int64_t d = active ? place.channel : 0;  // idle threads still help to fill the tile
  const int states = static_cast<int>(p.states);

  float A[kStates], h[kStates];
#pragma unroll kCudaUnroll < kStates>
  for (int n = 0; n < kStates; ++n) {
    A[n] = n < states ? cuda_scaled_decay(p.A[d * p.states + n]) : 0.0f;
    h[n] = n < states && p.initial_state != nullptr ? p.initial_state[(b * p.channels + d) * p.states + n] : 0.0f;
  }
  const float bias = p.delta_bias != nullptr ? p.delta_bias[d] : 0.0f;
  const float skip = p.D != nullptr ? p.D[d] : 0.0f;

  const T* const u = static_cast<const T*>(p.u.data) + strided_index(p.u.batch, p.u.time, b, 0, d);
  const T* const delta = static_cast<const T*>(p.delta.data) + strided_index(p.delta.batch, p.delta.time, b, 0, d);
  const T* const z =
      p.z.data != nullptr ? static_cast<const T*>(p.z.data) + strided_index(p.z.batch, p.z.time, b, 0, d) : nullptr;
  const T* const B =
      static_cast<const T*>(p.B.data) + strided_index(p.B.batch, p.B.time, b, 0, place.group * p.B_group);
  const T* const C =
      static_cast<const T*>(p.C.data) + strided_index(p.C.batch, p.C.time, b, 0, place.group * p.C_group);
  T* const y = static_cast<T*>(p.y) + b * p.length * p.channels + d;

  for (int64_t begin = 0; begin < p.length; begin += tile_steps) {
    const int64_t steps = p.length - begin < tile_steps ? p.length - begin : tile_steps;
    __syncthreads();
    for (int64_t i = threadIdx.x; i < steps * kStates; i += kCudaThreads) {
      const int64_t t = begin + i / kStates;
      const int64_t n = i % kStates;
      tile_B[i] = n < states ? to_float(B[t * p.B.time + n]) : 0.0f;
      tile_C[i] = n < states ? to_float(C[t * p.C.time + n]) : 0.0f;
    }
    for (int64_t i = threadIdx.x; i < steps; i += kCudaThreads) {
      tile_position[i] = p.positions != nullptr ? p.positions[b * p.length + begin + i] : 1;
    }
    __syncthreads();
    if (!active) continue;
    if (p.checkpoints != nullptr && begin % kChunk == 0) {
      float* const to = p.checkpoints + cuda_checkpoint_index(p.length, p.states, p.channels, b, begin / kChunk) + d;
#pragma unroll kCudaUnroll < kStates>
      for (int n = 0; n < kStates; ++n) {
        if (n < states) to[n * p.channels] = h[n];
      }
    }
    for (int64_t first = 0; first < steps; first += kAhead) {
      float u_ahead[kAhead], delta_ahead[kAhead], z_ahead[kAhead];
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        const int64_t t = begin + (first + k < steps ? first + k : steps - 1);
        u_ahead[k] = to_float(u[t * p.u.time]);
        delta_ahead[k] = to_float(delta[t * p.delta.time]) + bias;
        z_ahead[k] = z != nullptr ? to_float(z[t * p.z.time]) : 0.0f;
      }
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        const int64_t i = first + k;
        if (i >= steps) break;
        const int64_t position = tile_position[i];
        float result = 0.0f;
        if (position >= 0) {
          if (position == 0) {
#pragma unroll kCudaUnroll < kStates>
            for (int n = 0; n < kStates; ++n) h[n] = 0.0f;
          }
          const float size = p.delta_softplus ? cuda_softplus(delta_ahead[k]) : delta_ahead[k];
          result = cuda_step<kStates>(size, u_ahead[k], A, tile_B + i * kStates, tile_C + i * kStates, h) +
                   skip * u_ahead[k];
          if (z != nullptr) result *= cuda_silu(z_ahead[k]);
        }
        from_float(result, y + (begin + i) * p.channels);
      }
    }
  }
  if (!active) return;
#pragma unroll kCudaUnroll < kStates>
  for (int n = 0; n < kStates; ++n) {
    if (n < states) p.last_state[(b * p.channels + d) * p.states + n] = h[n];
  }
}

template <int kStates, class T>
void launch(const CudaForward& p, cudaStream_t stream) {
  const int64_t blocks = p.batch * p.groups * cuda_blocks_per_group(p.channels, p.groups);
  const int64_t steps = cuda_tile_steps(kStates);
  const size_t shared = 2 * steps * kStates * sizeof(float) + steps * sizeof(int64_t);
  forward_kernel<kStates, T><<<static_cast<unsigned>(blocks), kCudaThreads, shared, stream>>>(p);
}

// Registers hold up to 64 states; beyond that the compiler keeps them in local memory.
template <class T>
void launch_for_states(const CudaForward& p, cudaStream_t stream) {
  if (p.states <= 16) {
    launch<16, T>(p, stream);
  } else if (p.states <= 32) {
    launch<32, T>(p, stream);
  } else if (p.states <= 64) {
    launch<64, T>(p, stream);
  } else {
    launch<kMaxStates, T>(p, stream);
  }
}

}  // namespace

const char* forward_cuda(const CudaForward& p, void* stream) {
  const int64_t blocks = p.batch * p.groups * cuda_blocks_per_group(p.channels, p.groups);
  if (blocks == 0) return nullptr;
  if (blocks > 0x7FFFFFFF) return "more than 2^31 - 1 blocks of 64 channels";
  const cudaStream_t on = static_cast<cudaStream_t>(stream);
  switch (p.type) {
    case CudaType::kFloat:
      launch_for_states<float>(p, on);
      break;
    case CudaType::kBFloat16:
      launch_for_states<__nv_bfloat16>(p, on);
      break;
    case CudaType::kHalf:
      launch_for_states<__half>(p, on);
      break;
  }
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace hippodrome::s6
