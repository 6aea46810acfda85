#include "architectures/recurrent/gru_scan/cuda.h"

#include "architectures/recurrent/gru_scan/cuda_kernels.h"
#include "core/cuda/launch.cuh"

namespace hippodrome {

const char* gru_scan_step_cuda(const GruScanStep& p, void* stream) {
  return recurrent::run_step<gru_scan_cuda::Cell>(p, cuda::GpuLauncher{stream});
}

const char* gru_scan_step_backward_cuda(const GruScanStepBackward& p, void* stream) {
  return recurrent::run_step_backward<gru_scan_cuda::Cell>(p, cuda::GpuLauncher{stream});
}

}  // namespace hippodrome
