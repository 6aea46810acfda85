// Binds the CUDA kernels of the diagonal-plus-low-rank scan to LibTorch, in libhippodrome_cuda.so. The schemas are in
// op.cpp.
#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include "architectures/ssm/dplr_scan/cuda.h"
#include "architectures/ssm/dplr_scan/cuda_binding.h"
#include "core/cuda/current_stream.h"

namespace hippodrome::dplr_scan_op {
namespace {

CudaKernels on(const cuda::OnDeviceOf& device) {
  return {dplr_scan_forward_cuda, dplr_scan_backward_cuda, device.stream()};
}

Saved forward_on_gpu(const Tensor& u, const Tensor& a, const Tensor& b, const Tensor& c, const Tensor& q,
                     const Tensor& w, const OptionalTensor& state, const OptionalTensor& positions, bool save,
                     bool reference) {
  const cuda::OnDeviceOf device(u);
  return cuda_forward(u, {a, b, c, q, w}, state, positions, save, reference, on(device));
}

Gradients backward_on_gpu(const Tensor& grad_y, const Tensor& grad_last_state, const Tensor& u, const Tensor& a,
                          const Tensor& b, const Tensor& c, const Tensor& q, const Tensor& w,
                          const OptionalTensor& state, const Tensor& readouts, const OptionalTensor& positions,
                          bool reference) {
  const cuda::OnDeviceOf device(u);
  return cuda_backward(grad_y, grad_last_state, u, {a, b, c, q, w}, state, readouts, positions, reference, on(device));
}

TORCH_LIBRARY_IMPL(hippodrome, CUDA, m) {
  m.impl("_dplr_scan_forward", forward_on_gpu);
  m.impl("_dplr_scan_backward", backward_on_gpu);
}

}  // namespace
}  // namespace hippodrome::dplr_scan_op
