// Starts kernels (block.h) on the GPU. For .cu files only.
#pragma once

#include <cuda_runtime_api.h>

#include "core/cuda/block.h"

namespace hippodrome::cuda {

template <class Kernel, class Params>
__global__ void __launch_bounds__(Kernel::kThreads) run_kernel(const __grid_constant__ Params p) {
  DeviceBlock<Kernel::kThreads> block;
  Kernel::run(block, p);
}

// Enqueues the kernel on `stream` (a cudaStream_t) of the current device; no block is no launch. Returns null, or
// CUDA's words for what went wrong.
template <class Kernel, class Params>
const char* launch(const Params& p, void* stream) {
  const int64_t blocks = Kernel::blocks(p);
  if (blocks == 0) return nullptr;
  if (blocks > 0x7FFFFFFF) return "more than 2^31 - 1 blocks";
  const int64_t shared = Kernel::shared_bytes(p);
  if (shared > 48 * 1024) {  // more than that is given on request only
    const cudaError_t error =
        cudaFuncSetAttribute(reinterpret_cast<const void*>(&run_kernel<Kernel, Params>),
                             cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
    if (error != cudaSuccess) {
      cudaGetLastError();  // or LibTorch would take it for its own next kernel's
      return cudaGetErrorString(error);
    }
  }
  run_kernel<Kernel, Params><<<static_cast<unsigned>(blocks), Kernel::kThreads, static_cast<size_t>(shared),
                               static_cast<cudaStream_t>(stream)>>>(p);
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

// How a binding starts kernels, when that is on the GPU: `launcher.run<Kernel>(params)`. The emulator has the other
// one.
struct GpuLauncher {
  void* stream = nullptr;
  template <class Kernel, class Params>
  const char* run(const Params& p) const {
    return launch<Kernel>(p, stream);
  }
};

}  // namespace hippodrome::cuda
