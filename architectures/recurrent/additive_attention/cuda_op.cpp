// Binds the CUDA kernels of additive attention to LibTorch, in libhippodrome_cuda.so. The schemas are in op.cpp.
#include <torch/library.h>

#include "architectures/recurrent/additive_attention/cuda_binding.h"
#include "core/cuda/current_stream.h"

namespace hippodrome::additive_cuda {
namespace {

Kernels kernels_on(const cuda::OnDeviceOf& device) {
  return {additive_attention_forward_cuda, additive_attention_weights_cuda, additive_attention_backward_cuda,
          device.stream()};
}

void check_fused(bool reference) {
  TORCH_CHECK(!reference, "additive_attention: the plain loops run on the CPU alone");
}

additive_attention_op::Outputs forward_on_gpu(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& values,
                                              const OptionalTensor& positions, bool reference) {
  check_fused(reference);
  const cuda::OnDeviceOf device(q);
  return forward(kernels_on(device), q, k, v, values, positions);
}

Tensor weights_on_gpu(const Tensor& q, const Tensor& k, const Tensor& v, const OptionalTensor& positions) {
  const cuda::OnDeviceOf device(q);
  return weights(kernels_on(device), q, k, v, positions);
}

additive_attention_op::Gradients backward_on_gpu(const Tensor& grad_context, const Tensor& grad_lse, const Tensor& q,
                                                 const Tensor& k, const Tensor& v, const Tensor& values,
                                                 const Tensor& context, const Tensor& lse,
                                                 const OptionalTensor& positions, bool reference) {
  check_fused(reference);
  const cuda::OnDeviceOf device(q);
  return backward(kernels_on(device), grad_context, grad_lse, q, k, v, values, context, lse, positions);
}

TORCH_LIBRARY_IMPL(hippodrome, CUDA, m) {
  m.impl("additive_attention_weights", weights_on_gpu);
  m.impl("_additive_attention_forward", forward_on_gpu);
  m.impl("_additive_attention_backward", backward_on_gpu);
}

}  // namespace
}  // namespace hippodrome::additive_cuda
