// Binds the CUDA kernels of the Cauchy sums to LibTorch, in libhippodrome_cuda.so. The schemas are in op.cpp.
#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include "architectures/ssm/cauchy/cuda.h"
#include "architectures/ssm/cauchy/cuda_binding.h"
#include "core/cuda/current_stream.h"

namespace hippodrome::cauchy_op {
namespace {

CudaKernels on(const cuda::OnDeviceOf& device) { return {cauchy_forward_cuda, cauchy_backward_cuda, device.stream()}; }

Tensor forward_on_gpu(const Tensor& v, const Tensor& lambda, c10::SymInt length, bool reference) {
  const cuda::OnDeviceOf device(v);
  return cuda_forward(v, lambda, length.guard_int(__FILE__, __LINE__), reference, on(device));
}

Gradients backward_on_gpu(const Tensor& grad_sums, const Tensor& v, const Tensor& lambda, c10::SymInt length,
                          bool reference) {
  const cuda::OnDeviceOf device(v);
  return cuda_backward(grad_sums, v, lambda, length.guard_int(__FILE__, __LINE__), reference, on(device));
}

TORCH_LIBRARY_IMPL(hippodrome, CUDA, m) {
  m.impl("_cauchy_forward", forward_on_gpu);
  m.impl("_cauchy_backward", backward_on_gpu);
}

}  // namespace
}  // namespace hippodrome::cauchy_op
