#include "architectures/rwkv/wkv4/cuda.h"

#include "architectures/rwkv/wkv4/cuda_kernels.h"
#include "core/cuda/launch.cuh"

namespace hippodrome {

const char* wkv4_forward_cuda(const Wkv4CudaForward& p, void* stream) {
  return run_wkv4_forward(p, cuda::GpuLauncher{stream});
}
const char* wkv4_backward_cuda(const Wkv4CudaBackward& p, void* stream) {
  return run_wkv4_backward(p, cuda::GpuLauncher{stream});
}

}  // namespace hippodrome
