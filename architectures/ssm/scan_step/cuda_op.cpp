// Registers the CUDA kernel of scan_step with LibTorch, in libhippodrome_cuda.so. The schema is in op.cpp.
#include <torch/library.h>

#include "architectures/ssm/scan_step/cuda_binding.h"
#include "core/cuda/current_stream.h"

namespace hippodrome::scan_step {
namespace {

Tensor step(SCAN_STEP_PARAMETERS) {
  const cuda::OnDeviceOf device(x);
  return cuda_step([&](const auto& p) { return step_cuda(p, device.stream()); }, {SCAN_STEP_ARGUMENTS});
}

TORCH_LIBRARY_IMPL(hippodrome, CUDA, m) { m.impl("scan_step", TORCH_FN(step)); }

}  // namespace
}  // namespace hippodrome::scan_step
