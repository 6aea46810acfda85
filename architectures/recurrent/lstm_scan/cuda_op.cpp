// hippodrome::lstm_scan on CUDA tensors.
#include <torch/library.h>

#include "architectures/recurrent/lstm_scan/cuda_binding.h"
#include "core/cuda/current_stream.h"

namespace hippodrome::lstm_scan_op {
namespace {

Saved forward_on_gpu(const Tensor& gates, const Tensor& weight_hh, const OptionalTensor& h0, const OptionalTensor& c0,
                     const OptionalTensor& positions, bool save, bool reference) {
  TORCH_CHECK(!reference, "lstm_scan: the plain loops are for the CPU");
  const cuda::OnDeviceOf device(gates);
  return forward_cuda(gates, weight_hh, h0, c0, positions, save,
                      {lstm_scan_step_cuda, lstm_scan_step_backward_cuda, device.stream()});
}

Gradients backward_on_gpu(const Tensor& grad_y, const Tensor& grad_h, const Tensor& grad_c, const Tensor& weight_hh,
                          const Tensor& activated, const Tensor& cells, const OptionalTensor& h0,
                          const OptionalTensor& c0, const OptionalTensor& positions, bool) {
  const cuda::OnDeviceOf device(activated);
  return backward_cuda(grad_y, grad_h, grad_c, weight_hh, activated, cells, h0, c0, positions,
                       {lstm_scan_step_cuda, lstm_scan_step_backward_cuda, device.stream()});
}

TORCH_LIBRARY_IMPL(hippodrome, CUDA, m) {
  m.impl("_lstm_scan_forward", forward_on_gpu);
  m.impl("_lstm_scan_backward", backward_on_gpu);
}

}  // namespace
}  // namespace hippodrome::lstm_scan_op
