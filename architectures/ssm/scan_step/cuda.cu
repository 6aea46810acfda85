// The CUDA kernel of scan_step (cuda_kernels.h), started.
#include "architectures/ssm/scan_step/cuda.h"
#include "architectures/ssm/scan_step/cuda_kernels.h"
#include "core/cuda/launch.cuh"

namespace hippodrome::scan_step {

const char* step_cuda(const CudaParams<float>& p, void* stream) {
  return run_step<float>(p, cuda::GpuLauncher{stream});
}
const char* step_cuda(const CudaParams<cuda::BFloat16>& p, void* stream) {
  return run_step<cuda::BFloat16>(p, cuda::GpuLauncher{stream});
}
const char* step_cuda(const CudaParams<cuda::Half>& p, void* stream) {
  return run_step<cuda::Half>(p, cuda::GpuLauncher{stream});
}
const char* step_cuda(const CudaParams<double>& p, void* stream) {
  return run_step<double>(p, cuda::GpuLauncher{stream});
}

}  // namespace hippodrome::scan_step
