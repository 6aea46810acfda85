// Registers the CUDA kernels of gated_rms_norm with LibTorch, in libhippodrome_cuda.so. The schemas are in op.cpp.
#include <torch/library.h>

#include "architectures/ssm/gated_rms_norm/cuda_binding.h"
#include "core/cuda/current_stream.h"

namespace hippodrome::gated_rms_norm_op {
namespace {

CudaKernels kernels_on(const cuda::OnDeviceOf& device) {
  return {gated_rms_norm_forward_cuda, gated_rms_norm_backward_cuda, device.stream()};
}

std::tuple<Tensor, Tensor> forward_on_gpu(const Tensor& x, const Tensor& z, const Tensor& weight, int64_t groups,
                                          double epsilon, bool norm_before_gate, bool reference) {
  const cuda::OnDeviceOf device(x);
  return cuda_forward(kernels_on(device), x, z, weight, groups, epsilon, norm_before_gate, reference);
}

std::tuple<Tensor, Tensor, Tensor> backward_on_gpu(const Tensor& grad_y, const Tensor& x, const Tensor& z,
                                                   const Tensor& weight, const Tensor& scale, int64_t groups,
                                                   bool norm_before_gate, bool reference) {
  const cuda::OnDeviceOf device(x);
  return cuda_backward(kernels_on(device), grad_y, x, z, weight, scale, groups, norm_before_gate, reference);
}

TORCH_LIBRARY_IMPL(hippodrome, CUDA, m) {
  m.impl("_gated_rms_norm_forward", TORCH_FN(forward_on_gpu));
  m.impl("_gated_rms_norm_backward", TORCH_FN(backward_on_gpu));
}

}  // namespace
}  // namespace hippodrome::gated_rms_norm_op
