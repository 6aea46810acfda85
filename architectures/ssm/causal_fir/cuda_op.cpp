// Registers the CUDA kernels of causal_fir with LibTorch, in libhippodrome_cuda.so. The schemas are in op.cpp.
#include <torch/library.h>

#include "architectures/ssm/causal_fir/cuda_binding.h"
#include "core/cuda/current_stream.h"

namespace hippodrome::causal_fir_op {
namespace {

CudaKernels kernels_on(const cuda::OnDeviceOf& device) {
  return {causal_fir_forward_cuda, causal_fir_backward_cuda, device.stream()};
}

Outputs forward(const Tensor& x, const Tensor& weight, const OptionalTensor& state, const OptionalTensor& positions,
                bool reference) {
  const cuda::OnDeviceOf device(x);
  return cuda_forward(kernels_on(device), x, weight, state, positions, reference);
}

Gradients backward(const Tensor& grad_y, const Tensor& grad_last_state, const Tensor& x, const Tensor& weight,
                   const OptionalTensor& state, const OptionalTensor& positions, bool reference) {
  const cuda::OnDeviceOf device(x);
  return cuda_backward(kernels_on(device), grad_y, grad_last_state, x, weight, state, positions, reference);
}

TORCH_LIBRARY_IMPL(hippodrome, CUDA, m) {
  m.impl("_causal_fir_forward", TORCH_FN(forward));
  m.impl("_causal_fir_backward", TORCH_FN(backward));
}

}  // namespace
}  // namespace hippodrome::causal_fir_op
