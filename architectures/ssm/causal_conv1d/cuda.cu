// The CUDA kernels of causal_conv1d (cuda_kernels.h), started.
#include "architectures/ssm/causal_conv1d/cuda.h"
#include "architectures/ssm/causal_conv1d/cuda_kernels.h"
#include "core/cuda/launch.cuh"

namespace hippodrome {

const char* causal_conv1d_forward_cuda(const CausalConv1dCudaForward& p, void* stream) {
  return causal_conv1d_cuda::run_forward(p, cuda::GpuLauncher{stream});
}

const char* causal_conv1d_backward_cuda(const CausalConv1dCudaBackward& p, void* stream) {
  return causal_conv1d_cuda::run_backward(p, cuda::GpuLauncher{stream});
}

}  // namespace hippodrome
