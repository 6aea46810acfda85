// The diagonal scan on the GPU; the kernels are in cuda_kernels.h.
#include "architectures/ssm/diagonal_scan/cuda.h"

#include "architectures/ssm/diagonal_scan/cuda_kernels.h"
#include "core/cuda/launch.cuh"

namespace hippodrome {

const char* diagonal_scan_forward_cuda(const DiagonalScanForwardCuda& p, void* stream) {
  return run_diagonal_scan_forward(p, cuda::GpuLauncher{stream});
}
const char* diagonal_scan_backward_cuda(const DiagonalScanBackwardCuda& p, void* stream) {
  return run_diagonal_scan_backward(p, cuda::GpuLauncher{stream});
}

}  // namespace hippodrome
