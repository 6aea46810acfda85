// Binds the CUDA kernels of the diagonal scan to LibTorch, in libhippodrome_cuda.so. The schemas are in op.cpp.
#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include "architectures/ssm/diagonal_scan/cuda.h"
#include "architectures/ssm/diagonal_scan/cuda_binding.h"
#include "core/cuda/current_stream.h"

namespace hippodrome::diagonal_scan_op {
namespace {

CudaKernels on(const cuda::OnDeviceOf& device) {
  return {diagonal_scan_forward_cuda, diagonal_scan_backward_cuda, device.stream()};
}

Saved forward_on_gpu(const Tensor& u, const Tensor& a_real, const Tensor& a_imag, const Tensor& b_real,
                     const Tensor& b_imag, const Tensor& c_real, const Tensor& c_imag, const OptionalTensor& state,
                     const OptionalTensor& positions, bool, bool reference) {
  const cuda::OnDeviceOf device(u);
  return cuda_forward(u, {a_real, a_imag, b_real, b_imag, c_real, c_imag}, state, positions, reference, on(device));
}

Gradients backward_on_gpu(const Tensor& grad_y, const Tensor& grad_last_state, const Tensor& u, const Tensor& a_real,
                          const Tensor& a_imag, const Tensor& b_real, const Tensor& b_imag, const Tensor& c_real,
                          const Tensor& c_imag, const OptionalTensor& state, const Tensor&,
                          const OptionalTensor& positions, bool reference) {
  const cuda::OnDeviceOf device(u);
  return cuda_backward(grad_y, grad_last_state, u, {a_real, a_imag, b_real, b_imag, c_real, c_imag}, state, positions,
                       reference, on(device));
}

TORCH_LIBRARY_IMPL(hippodrome, CUDA, m) {
  m.impl("_diagonal_scan_forward", forward_on_gpu);
  m.impl("_diagonal_scan_backward", backward_on_gpu);
}

}  // namespace
}  // namespace hippodrome::diagonal_scan_op
