// Registers the CUDA kernels of the diagonal scan with LibTorch, in libhippodrome_cuda.so. The schemas are in op.cpp;
// the reference stays on the CPU.
#include <torch/library.h>

#include "architectures/ssm/diagonal_scan/cuda_binding.h"
#include "architectures/ssm/scan_operator.h"
#include "core/cuda/current_stream.h"

namespace hippodrome::diagonal_scan_op {
namespace {

// The adapters of ScanOperator for the one kernel there is here; their names are those of the CPU's.
struct OnGpu {
  static constexpr const char* kName = diagonal_scan_op::kName;
  static constexpr size_t kGradients = kParameters + 2;
  using Parameters = mode_scan::ArgumentList<kParameters>::Function;
  static CudaKernels on(const cuda::OnDeviceOf& device) {
    return {diagonal_scan_forward_cuda, diagonal_scan_backward_cuda, device.stream()};
  }
  static Outputs forward_cpu(const Arguments& a, bool /*reference*/, bool /*keep*/) {
    const cuda::OnDeviceOf device(a.u);
    return cuda_forward(a, on(device));
  }
  static Gradients backward_cpu(const OptionalTensor& grad_y, const OptionalTensor& grad_last_state, const Arguments& a,
                                const OptionalTensor& /*checkpoints*/, bool /*reference*/) {
    const cuda::OnDeviceOf device(a.u);
    return cuda_backward(grad_y, grad_last_state, a, on(device));
  }
};
using Operator = ScanOperator<OnGpu>;

TORCH_LIBRARY_IMPL(hippodrome, CUDA, m) {
  m.impl("diagonal_scan", Operator::scan_cpu<false>);
  m.impl("_diagonal_scan_forward", Operator::kept_cpu);
  m.impl("_diagonal_scan_backward", Operator::gradients_cpu<false>);
}

}  // namespace
}  // namespace hippodrome::diagonal_scan_op
