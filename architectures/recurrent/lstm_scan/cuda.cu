#include "architectures/recurrent/lstm_scan/cuda.h"

#include "architectures/recurrent/lstm_scan/cuda_kernels.h"
#include "core/cuda/launch.cuh"

namespace hippodrome {

const char* lstm_scan_step_cuda(const LstmScanStep& p, void* stream) {
  return recurrent::run_step<lstm_scan_cuda::Cell>(p, cuda::GpuLauncher{stream});
}

const char* lstm_scan_step_backward_cuda(const LstmScanStepBackward& p, void* stream) {
  return recurrent::run_step_backward<lstm_scan_cuda::Cell>(p, cuda::GpuLauncher{stream});
}

}  // namespace hippodrome
