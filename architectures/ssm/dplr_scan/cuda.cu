// The diagonal-plus-low-rank scan on the GPU; the kernels are in cuda_kernels.h.
#include "architectures/ssm/dplr_scan/cuda.h"

#include "architectures/ssm/dplr_scan/cuda_kernels.h"
#include "core/cuda/launch.cuh"

namespace hippodrome {

const char* dplr_scan_forward_cuda(const DplrScanForwardCuda& p, void* stream) {
  return run_dplr_scan_forward(p, cuda::GpuLauncher{stream});
}
const char* dplr_scan_backward_cuda(const DplrScanBackwardCuda& p, void* stream) {
  return run_dplr_scan_backward(p, cuda::GpuLauncher{stream});
}

}  // namespace hippodrome
