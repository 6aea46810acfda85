// SSD on the GPU: the kernels of cuda_kernels.h and cuda_backward_kernels.h for the launches of CUDA.
#include "architectures/ssm/ssd/cuda.h"

#include "architectures/ssm/ssd/cuda_backward_kernels.h"
#include "architectures/ssm/ssd/cuda_kernels.h"
#include "core/cuda/launch.cuh"

namespace hippodrome::ssd_kernel {

const char* ssd_forward_cuda(const CudaParams& p, void* stream) {
  return gpu::run_ssd_forward(p, cuda::GpuLauncher{stream});
}

const char* ssd_backward_cuda(const CudaGradients& p, void* stream) {
  return gpu::run_ssd_backward(p, cuda::GpuLauncher{stream});
}

}  // namespace hippodrome::ssd_kernel
