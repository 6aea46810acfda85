// How a CUDA kernel is written here, so that a machine without a GPU runs the very same source (emulator.h) in its
// tests.
//
// A kernel is a struct with
//
//   static constexpr int kThreads;                                   threads of a block, a multiple of 32
//   static int64_t blocks(const Params&);                            blocks of the launch
//   static int64_t shared_bytes(const Params&);                      shared memory of a block
//   template <class Block> static HIPPODROME_KERNEL void run(Block& block, const Params& p);
//
// `run` is what one block does: a sequence of phases. `block.each(f)` calls f(thread) for every thread of the block and
// then lets all wait for each other; `block.alone(f)` is the same without the barrier, for phases whose threads touch
// nothing that another thread writes or reads in shared memory before the next barrier. What a thread keeps in
// registers from one phase to the next is a `Block::PerThread<R>`. Conditions and loops around phases must be the same
// for all threads of the block.
//
//   template <class Block> static void run(Block& block, const Params& p) {
//     float* tile = block.template shared<float>(kThreads);
//     typename Block::template PerThread<float> sum;
//     block.each([&](int thread) { tile[thread] = p.x[block.index() * kThreads + thread]; });
//     block.alone([&](int thread) { sum[thread] = tile[thread] + tile[(thread + 1) % kThreads]; });
//     ...
//
// Nothing may depend on the order of threads within a phase or of blocks within a launch: the emulator runs both
// orders.
#pragma once

#include "core/cuda/element.h"

namespace hippodrome::cuda {

#ifdef __CUDACC__

// A block on the GPU: the code between two barriers is that of this thread.
template <int kThreads>
class DeviceBlock {
 public:
  template <class R>
  class PerThread {
   public:
    __device__ __forceinline__ R& operator[](int) { return value_; }

   private:
    R value_;
  };

  __device__ __forceinline__ int64_t index() const { return blockIdx.x; }

  template <class F>
  __device__ __forceinline__ void each(const F& f) {
    f(static_cast<int>(threadIdx.x));
    __syncthreads();
  }
  template <class F>
  __device__ __forceinline__ void alone(const F& f) {
    f(static_cast<int>(threadIdx.x));
  }

  // The next `count` elements of the block's shared memory, aligned to 16 bytes (the first to 32); not set.
  template <class T>
  __device__ __forceinline__ T* shared(int64_t count) {
    extern __shared__ __align__(32) unsigned char hippodrome_shared_memory[];
    T* const result = reinterpret_cast<T*>(hippodrome_shared_memory + used_);
    used_ += (count * static_cast<int64_t>(sizeof(T)) + 15) / 16 * 16;
    return result;
  }

  // Sums over groups of kWidth neighbouring threads (a power of two up to 32); every thread of a group gets its group's
  // sum. The order of additions is fixed: pairs at distance kWidth / 2, then kWidth / 4, and so on.
  template <int kWidth, class S>
  __device__ __forceinline__ void sum_over_lanes(PerThread<S>& x) {
#pragma unroll
    for (int distance = kWidth / 2; distance > 0; distance /= 2) {
      x[0] += __shfl_xor_sync(0xFFFFFFFFu, x[0], distance);
    }
  }
  template <int kWidth, class S>
  __device__ __forceinline__ void max_over_lanes(PerThread<S>& x) {
#pragma unroll
    for (int distance = kWidth / 2; distance > 0; distance /= 2) {
      const S other = __shfl_xor_sync(0xFFFFFFFFu, x[0], distance);
      x[0] = x[0] > other ? x[0] : other;
    }
  }

 private:
  int64_t used_ = 0;
};

#endif  // __CUDACC__

// Bytes that shared<T>(count) takes, for shared_bytes().
template <class T>
HIPPODROME_HOST_DEVICE int64_t shared_size(int64_t count) {
  return (count * static_cast<int64_t>(sizeof(T)) + 15) / 16 * 16;
}

HIPPODROME_HOST_DEVICE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace hippodrome::cuda

// `#pragma unroll` for device code; other compilers do not know it.
#ifdef __CUDA_ARCH__
#define HIPPODROME_UNROLL _Pragma("unroll")
#define HIPPODROME_UNROLL_BY_ONE _Pragma("unroll 1")
#define HIPPODROME_UNROLL_BY_TWO _Pragma("unroll 2")
#else
#define HIPPODROME_UNROLL
#define HIPPODROME_UNROLL_BY_ONE
#define HIPPODROME_UNROLL_BY_TWO
#endif
