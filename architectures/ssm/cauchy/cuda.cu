// The Cauchy sums on the GPU; the kernels are in cuda_kernels.h.
#include "architectures/ssm/cauchy/cuda.h"

#include "architectures/ssm/cauchy/cuda_kernels.h"
#include "core/cuda/launch.cuh"

namespace hippodrome {

const char* cauchy_forward_cuda(const CauchyForwardCuda& p, void* stream) {
  return run_cauchy_forward(p, cuda::GpuLauncher{stream});
}
const char* cauchy_backward_cuda(const CauchyBackwardCuda& p, void* stream) {
  return run_cauchy_backward(p, cuda::GpuLauncher{stream});
}

}  // namespace hippodrome
