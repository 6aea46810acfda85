// From LibTorch tensors to the steps of the CUDA kernels. What starts them is an argument, so that tests run all of
// this on the CPU.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include "architectures/recurrent/gru_scan/binding.h"
#include "architectures/recurrent/gru_scan/cuda.h"
#include "architectures/recurrent/step_loop.h"

namespace hippodrome::gru_scan_op {

using StepKernels = recurrent::StepKernels<GruScanStep, GruScanStepBackward>;

inline Saved forward_cuda(const Tensor& gates_in, const Tensor& weight_in, const Tensor& bias_in,
                          const OptionalTensor& h0, const OptionalTensor& positions_in, bool save,
                          const StepKernels& kernels) {
  check(gates_in, weight_in, bias_in, h0, positions_in);
  const auto dtype = compute_dtype(gates_in);
  const int64_t batch = gates_in.size(0), length = gates_in.size(1), hidden = weight_in.size(1);
  const Tensor gates = recurrent::units_contiguous(gates_in), weight = in_compute_dtype(weight_in, dtype);
  const Tensor bias = in_compute_dtype(bias_in, dtype), positions = contiguous_if_given(positions_in);
  auto [y, h, activated, hidden_states] = make_outputs(gates, weight, save);
  h = recurrent::copied_state(h0, batch, hidden, h.options());
  Tensor product = at::empty({batch, 3 * hidden}, weight.options());
  GruScanStep p{batch,
                length,
                hidden,
                0,
                cuda::element_of(gates.scalar_type()),
                gates.const_data_ptr(),
                gates.stride(0),
                gates.stride(1),
                product.const_data_ptr(),
                bias.const_data_ptr(),
                data_or_null<int64_t>(positions),
                y.mutable_data_ptr(),
                h.mutable_data_ptr(),
                save ? activated.mutable_data_ptr() : nullptr,
                save ? hidden_states.mutable_data_ptr() : nullptr};
  recurrent::forward_steps("gru_scan", length, h, weight, product, [&](int64_t t) {
    p.step = t;
    return kernels.forward(p, kernels.stream);
  });
  return {y, h, activated, hidden_states};
}

inline Gradients backward_cuda(const Tensor& grad_y_in, const Tensor& grad_h_in, const Tensor& weight_in,
                               const Tensor& activated, const Tensor& hidden_states, const OptionalTensor& h0_in,
                               const OptionalTensor& positions_in, const StepKernels& kernels) {
  const auto dtype = activated.scalar_type();
  const auto options = activated.options();
  const int64_t batch = activated.size(0), length = activated.size(1), hidden = weight_in.size(1);
  const int64_t tokens = batch * length;
  const Tensor grad_y = recurrent::output_gradient(grad_y_in, dtype), weight = in_compute_dtype(weight_in, dtype);
  const Tensor h0 = in_compute_dtype(h0_in, dtype), positions = contiguous_if_given(positions_in);
  Tensor grad_h = recurrent::copied_state(grad_h_in, batch, hidden, options);
  Tensor grad_products = at::empty({batch, length, 3 * hidden}, options);
  Tensor grad_n = at::empty({batch, length, hidden}, options);
  Tensor previous_h = at::empty({batch, length, hidden}, options);
  GruScanStepBackward p{batch,
                        length,
                        hidden,
                        0,
                        cuda::element_of(grad_y.scalar_type()),
                        activated.const_data_ptr(),
                        hidden_states.const_data_ptr(),
                        recurrent::address_or_null(h0),
                        data_or_null<int64_t>(positions),
                        grad_y.const_data_ptr(),
                        grad_y.stride(0),
                        grad_y.stride(1),
                        grad_h.mutable_data_ptr(),
                        grad_products.mutable_data_ptr(),
                        grad_n.mutable_data_ptr(),
                        previous_h.mutable_data_ptr()};
  recurrent::backward_steps("gru_scan", grad_products, weight, positions, grad_h, [&](int64_t t) {
    p.step = t;
    return kernels.backward(p, kernels.stream);
  });
  const Tensor products = grad_products.view({tokens, 3 * hidden});
  Tensor grad_weight = at::mm(products.t(), previous_h.view({tokens, hidden}));
  Tensor grad_bias = products.slice(1, 2 * hidden, 3 * hidden).sum(0);
  // The products' gradients are those of gates but for n, where the reset gate lies between.
  grad_products.slice(2, 2 * hidden, 3 * hidden).copy_(grad_n);
  return {grad_products, grad_weight, grad_bias, grad_h};
}

}  // namespace hippodrome::gru_scan_op
