// Registers the CUDA kernels of causal_conv1d with LibTorch, in libhippodrome_cuda.so. The schemas are in op.cpp.
#include <torch/library.h>

#include "architectures/ssm/causal_conv1d/cuda_binding.h"
#include "core/cuda/current_stream.h"

namespace hippodrome::causal_conv1d_op {
namespace {

CudaKernels kernels_on(const cuda::OnDeviceOf& device) {
  return {causal_conv1d_forward_cuda, causal_conv1d_backward_cuda, device.stream()};
}

std::tuple<Tensor, Tensor> forward(const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
                                   std::string_view activation, const OptionalTensor& initial_state,
                                   const OptionalTensor& positions, bool reference) {
  const cuda::OnDeviceOf device(x);
  return cuda_forward(kernels_on(device), x, weight, bias, activation, initial_state, positions, reference);
}

Tensor in_place(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, std::string_view activation,
                const Tensor& state, const OptionalTensor& positions) {
  const cuda::OnDeviceOf device(x);
  return cuda_in_place(kernels_on(device), x, weight, bias, activation, state, positions);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> backward(const OptionalTensor& grad_y,
                                                    const OptionalTensor& grad_final_state, const Tensor& x,
                                                    const Tensor& weight, const OptionalTensor& bias,
                                                    std::string_view activation, const OptionalTensor& initial_state,
                                                    const OptionalTensor& positions, bool reference) {
  const cuda::OnDeviceOf device(x);
  return cuda_backward(kernels_on(device), grad_y, grad_final_state, x, weight, bias, activation, initial_state,
                       positions, reference);
}

TORCH_LIBRARY_IMPL(hippodrome, CUDA, m) {
  m.impl("_causal_conv1d_forward", TORCH_FN(forward));
  m.impl("_causal_conv1d_in_place", TORCH_FN(in_place));
  m.impl("_causal_conv1d_backward", TORCH_FN(backward));
}

}  // namespace
}  // namespace hippodrome::causal_conv1d_op
