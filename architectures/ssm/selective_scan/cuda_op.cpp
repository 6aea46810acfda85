// Registers the CUDA kernels of the selective scan with LibTorch, in libhippodrome_cuda.so. The schemas and autograd
// are in op.cpp.
#include <torch/library.h>

#include <tuple>

#include "architectures/ssm/selective_scan/cuda_binding.h"
#include "core/cuda/current_stream.h"

namespace hippodrome::s6 {
namespace {

#define SCAN_PARAMETERS                                                                                             \
  const Tensor &u, const Tensor &delta, const Tensor &A, const Tensor &B, const Tensor &C, const OptionalTensor &D, \
      const OptionalTensor &z, const OptionalTensor &delta_bias, bool delta_softplus, bool complex,                 \
      bool zero_order_hold, const OptionalTensor &initial_state, const OptionalTensor &positions
#define SCAN_ARGUMENTS \
  u, delta, A, B, C, D, z, delta_bias, delta_softplus, complex, zero_order_hold, initial_state, positions

CudaKernels kernels_on(const cuda::OnDeviceOf& device) { return {forward_cuda, backward_cuda, device.stream()}; }

std::tuple<Tensor, Tensor> scan_cuda(SCAN_PARAMETERS) {
  const cuda::OnDeviceOf device(u);
  const Outputs out = forward_on_gpu({SCAN_ARGUMENTS}, false, kernels_on(device));
  return {out.y, out.last_state};
}

std::tuple<Tensor, Tensor, Tensor> kept_cuda(SCAN_PARAMETERS) {
  const cuda::OnDeviceOf device(u);
  const Outputs out = forward_on_gpu({SCAN_ARGUMENTS}, true, kernels_on(device));
  return {out.y, out.last_state, out.checkpoints};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> gradients_cuda(
    const OptionalTensor& grad_y, const OptionalTensor& grad_last_state, SCAN_PARAMETERS,
    const OptionalTensor& checkpoints) {
  const cuda::OnDeviceOf device(u);
  const InputGradients g = backward_on_gpu(grad_y, grad_last_state, {SCAN_ARGUMENTS}, checkpoints, kernels_on(device));
  return {g.u, g.delta, g.A, g.B, g.C, g.D, g.z, g.delta_bias, g.initial_state};
}

#undef SCAN_PARAMETERS
#undef SCAN_ARGUMENTS

TORCH_LIBRARY_IMPL(hippodrome, CUDA, m) {
  m.impl("selective_scan", scan_cuda);
  m.impl("_selective_scan_forward", kept_cuda);
  m.impl("_selective_scan_backward", gradients_cuda);
}

}  // namespace
}  // namespace hippodrome::s6
