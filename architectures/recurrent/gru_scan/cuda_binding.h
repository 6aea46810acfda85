// From LibTorch tensors to the steps of the CUDA kernels; the loop over them is step_loop.h's.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>

#include "architectures/recurrent/gru_scan/binding.h"
#include "architectures/recurrent/gru_scan/cuda.h"
#include "architectures/recurrent/step_loop.h"

namespace hippodrome::gru_scan_op {

using StepKernels = recurrent::StepKernels<GruScanStep, GruScanStepBackward>;

inline Saved forward_cuda(const Tensor& gates, const Tensor& weight_hh, const Tensor& bias_hn, const OptionalTensor& h0,
                          const OptionalTensor& positions, bool save, const StepKernels& kernels) {
  check(gates, weight_hh, bias_hn, h0, positions);
  auto [y, h, activated, hidden_states] = make_outputs(gates, weight_hh, save);
  recurrent::begin_with(h0, h);
  const Tensor bias = in_compute_dtype(bias_hn, compute_dtype(gates));
  GruScanStep p;
  p.bias_hn = bias.const_data_ptr();
  recurrent::scan("gru_scan", p, gates, weight_hh, positions, y, h, activated, hidden_states, kernels);
  return {y, h, activated, hidden_states};
}

inline Gradients backward_cuda(const Tensor& grad_y, const Tensor& grad_h, const Tensor& weight_hh,
                               const Tensor& activated, const Tensor& hidden_states, const OptionalTensor& h0,
                               const OptionalTensor& positions, const StepKernels& kernels) {
  const Tensor grad_n = at::zeros(hidden_states.sizes(), activated.options());
  GruScanStepBackward p;
  p.grad_n = grad_n.mutable_data_ptr();
  auto [grad_gates, grad_weight, grad_h0] = recurrent::differentiate_scan(
      "gru_scan", p, grad_y, grad_h, weight_hh, activated, hidden_states, h0, positions, kernels);
  // The products' gradients are those of gates but for n, where the reset gate lies between.
  Tensor of_n = grad_gates.slice(2, 2 * weight_hh.size(1));
  const Tensor grad_bias = of_n.flatten(0, 1).sum(0);
  of_n.copy_(grad_n);
  return {grad_gates, grad_weight, grad_bias, grad_h0};
}

}  // namespace hippodrome::gru_scan_op
