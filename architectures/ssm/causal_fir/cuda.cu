// The CUDA kernels of causal_fir (cuda_kernels.h), started.
#include "architectures/ssm/causal_fir/cuda.h"
#include "architectures/ssm/causal_fir/cuda_kernels.h"
#include "core/cuda/launch.cuh"

namespace hippodrome {

const char* causal_fir_forward_cuda(const CausalFirCudaForward& p, void* stream) {
  return causal_fir_cuda::run_forward(p, cuda::GpuLauncher{stream});
}

const char* causal_fir_backward_cuda(const CausalFirCudaBackward& p, void* stream) {
  return causal_fir_cuda::run_backward(p, cuda::GpuLauncher{stream});
}

}  // namespace hippodrome
