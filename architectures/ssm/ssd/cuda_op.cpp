// Binds the CUDA kernels of SSD to LibTorch, in libhippodrome_cuda.so. The schemas are in op.cpp; the reference stays
// on the CPU.
#include <torch/library.h>

#include "architectures/ssm/scan_operator.h"
#include "architectures/ssm/ssd/cuda_binding.h"
#include "core/cuda/current_stream.h"

namespace hippodrome::ssd_kernel {
namespace {

// The adapters of ScanOperator for the one kernel there is here; their names are those of the CPU's.
struct SsdOnGpu {
  static constexpr const char* kName = "ssd";
  using Parameters = OperatorParameters;
  static Outputs forward_cpu(const Arguments& a, bool /*reference*/, bool keep) {
    const cuda::OnDeviceOf device(a.x);
    return forward_with({ssd_forward_cuda, ssd_backward_cuda, device.stream()}, a, keep);
  }
  static InputGradients backward_cpu(const OptionalTensor& grad_y, const OptionalTensor& grad_last_state,
                                     const Arguments& a, const OptionalTensor& checkpoints, bool /*reference*/) {
    const cuda::OnDeviceOf device(a.x);
    return backward_with({ssd_forward_cuda, ssd_backward_cuda, device.stream()}, grad_y, grad_last_state, a,
                         checkpoints);
  }
};
using Operator = ScanOperator<SsdOnGpu>;

TORCH_LIBRARY_IMPL(hippodrome, CUDA, m) {
  m.impl("ssd", Operator::scan_cpu<false>);
  m.impl("_ssd_forward", Operator::kept_cpu);
  m.impl("_ssd_backward", Operator::gradients_cpu<false>);
}

}  // namespace
}  // namespace hippodrome::ssd_kernel
