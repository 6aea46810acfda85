// Registers wkv4's CUDA kernels with LibTorch, in libhippodrome_cuda.so; schemas and autograd are op.cpp's.
#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include <tuple>

#include "architectures/rwkv/wkv4/cuda_binding.h"
#include "core/cuda/current_stream.h"

namespace hippodrome::wkv4_op {
namespace {

CudaKernels kernels_on(void* stream) { return {wkv4_forward_cuda, wkv4_backward_cuda, stream}; }

void check_fused(bool reference) {
  TORCH_CHECK(!reference, "wkv4_reference: the plain loops run on the CPU only; move the tensors there or take wkv4");
}

Outputs forward_on_gpu(const Tensor& w, const Tensor& u, const Tensor& k, const Tensor& v, const OptionalTensor& state,
                       const OptionalTensor& positions) {
  const cuda::OnDeviceOf device(k);
  auto [y, last_state, none] = forward_with(kernels_on(device.stream()), w, u, k, v, state, positions, false);
  return {y, last_state};
}

SavedOutputs saving_forward_on_gpu(const Tensor& w, const Tensor& u, const Tensor& k, const Tensor& v,
                                   const OptionalTensor& state, const OptionalTensor& positions, bool reference) {
  check_fused(reference);
  const cuda::OnDeviceOf device(k);
  return forward_with(kernels_on(device.stream()), w, u, k, v, state, positions, true);
}

Gradients backward_on_gpu(const OptionalTensor& grad_y, const OptionalTensor& grad_last_state, const Tensor& w,
                          const Tensor& u, const Tensor& k, const Tensor& v, const OptionalTensor& state,
                          const OptionalTensor& positions, const Tensor& checkpoints, bool reference) {
  check_fused(reference);
  const cuda::OnDeviceOf device(k);
  return backward_with(kernels_on(device.stream()), grad_y, grad_last_state, w, u, k, v, state, positions, checkpoints);
}

TORCH_LIBRARY_IMPL(hippodrome, CUDA, m) {
  m.impl("wkv4", TORCH_FN(forward_on_gpu));
  m.impl("_wkv4_forward", TORCH_FN(saving_forward_on_gpu));
  m.impl("_wkv4_backward", TORCH_FN(backward_on_gpu));
}

}  // namespace
}  // namespace hippodrome::wkv4_op
