// The CUDA kernels of gated_rms_norm (cuda_kernels.h), started.
#include "architectures/ssm/gated_rms_norm/cuda.h"

#include "architectures/ssm/gated_rms_norm/cuda_kernels.h"
#include "core/cuda/launch.cuh"

namespace hippodrome::gated_rms_norm_op {

const char* gated_rms_norm_forward_cuda(const CudaForward& p, void* stream) {
  return run_forward(p, cuda::GpuLauncher{stream});
}

const char* gated_rms_norm_backward_cuda(const CudaBackward& p, void* stream) {
  return run_backward(p, cuda::GpuLauncher{stream});
}

}  // namespace hippodrome::gated_rms_norm_op
