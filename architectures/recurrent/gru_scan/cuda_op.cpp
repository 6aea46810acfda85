// hippodrome::gru_scan on CUDA tensors.
#include <torch/library.h>

#include "architectures/recurrent/gru_scan/cuda_binding.h"
#include "core/cuda/current_stream.h"

namespace hippodrome::gru_scan_op {
namespace {

Saved forward_on_gpu(const Tensor& gates, const Tensor& weight_hh, const Tensor& bias_hn, const OptionalTensor& h0,
                     const OptionalTensor& positions, bool save, bool reference) {
  TORCH_CHECK(!reference, "gru_scan: the plain loops are for the CPU");
  const cuda::OnDeviceOf device(gates);
  return forward_cuda(gates, weight_hh, bias_hn, h0, positions, save,
                      {gru_scan_step_cuda, gru_scan_step_backward_cuda, device.stream()});
}

Gradients backward_on_gpu(const Tensor& grad_y, const Tensor& grad_h, const Tensor& weight_hh, const Tensor& activated,
                          const Tensor& hidden_states, const OptionalTensor& h0, const OptionalTensor& positions,
                          bool) {
  const cuda::OnDeviceOf device(activated);
  return backward_cuda(grad_y, grad_h, weight_hh, activated, hidden_states, h0, positions,
                       {gru_scan_step_cuda, gru_scan_step_backward_cuda, device.stream()});
}

TORCH_LIBRARY_IMPL(hippodrome, CUDA, m) {
  m.impl("_gru_scan_forward", forward_on_gpu);
  m.impl("_gru_scan_backward", backward_on_gpu);
}

}  // namespace
}  // namespace hippodrome::gru_scan_op
