// Registers attentive_scan for CUDA, in libhippodrome_cuda.so. The schemas are in op.cpp.
#include <torch/library.h>

#include <string>

#include "architectures/recurrent/attentive_scan/cuda_binding.h"
#include "core/cuda/current_stream.h"

namespace hippodrome::attentive_scan_cuda {
namespace {

additive_cuda::Kernels attention_on(const cuda::OnDeviceOf& device) {
  using namespace additive_cuda;
  return {additive_attention_forward_cuda, additive_attention_weights_cuda, additive_attention_backward_cuda,
          device.stream()};
}

void check_fused(bool reference) { TORCH_CHECK(!reference, "attentive_scan: the plain loops run on the CPU alone"); }

attentive_scan_op::Saved forward_on_gpu(HIPPODROME_ATTENTIVE_PARAMETERS, bool save, bool reference) {
  check_fused(reference);
  const cuda::OnDeviceOf device(gates);
  return forward(
      attention_on(device),
      {std::string(cell), gates, weight_hh, weight_c, weight_q, keys, v, values, s0, c0, source_positions, positions},
      save);
}

attentive_scan_op::Gradients backward_on_gpu(at::TensorList grads, HIPPODROME_ATTENTIVE_PARAMETERS,
                                             const Tensor& contexts, at::TensorList kept, bool reference) {
  check_fused(reference);
  const cuda::OnDeviceOf device(gates);
  return backward(
      attention_on(device), grads.vec(),
      {std::string(cell), gates, weight_hh, weight_c, weight_q, keys, v, values, s0, c0, source_positions, positions},
      contexts, kept.vec());
}

TORCH_LIBRARY_IMPL(hippodrome, CUDA, m) {
  m.impl("_attentive_scan_forward", forward_on_gpu);
  m.impl("_attentive_scan_backward", backward_on_gpu);
}

}  // namespace
}  // namespace hippodrome::attentive_scan_cuda
#undef HIPPODROME_ATTENTIVE_PARAMETERS
#undef HIPPODROME_ATTENTIVE_ARGUMENTS
