// From LibTorch tensors to the steps of the CUDA kernels. What starts them is an argument, so that tests run all of
// this on the CPU.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include "architectures/recurrent/lstm_scan/binding.h"
#include "architectures/recurrent/lstm_scan/cuda.h"
#include "architectures/recurrent/step_loop.h"

namespace hippodrome::lstm_scan_op {

using StepKernels = recurrent::StepKernels<LstmScanStep, LstmScanStepBackward>;

inline Saved forward_cuda(const Tensor& gates_in, const Tensor& weight_in, const OptionalTensor& h0,
                          const OptionalTensor& c0, const OptionalTensor& positions_in, bool save,
                          const StepKernels& kernels) {
  check(gates_in, weight_in, h0, c0, positions_in);
  const auto dtype = compute_dtype(gates_in);
  const int64_t batch = gates_in.size(0), length = gates_in.size(1), hidden = weight_in.size(1);
  const Tensor gates = recurrent::units_contiguous(gates_in), weight = in_compute_dtype(weight_in, dtype);
  const Tensor positions = contiguous_if_given(positions_in);
  auto [y, h, c, activated, cells] = make_outputs(gates, weight, save);
  h = recurrent::copied_state(h0, batch, hidden, h.options());
  c = recurrent::copied_state(c0, batch, hidden, c.options());
  Tensor product = at::empty({batch, 4 * hidden}, weight.options());
  LstmScanStep p{batch,
                 length,
                 hidden,
                 0,
                 cuda::element_of(gates.scalar_type()),
                 gates.const_data_ptr(),
                 gates.stride(0),
                 gates.stride(1),
                 product.const_data_ptr(),
                 data_or_null<int64_t>(positions),
                 y.mutable_data_ptr(),
                 h.mutable_data_ptr(),
                 c.mutable_data_ptr(),
                 save ? activated.mutable_data_ptr() : nullptr,
                 save ? cells.mutable_data_ptr() : nullptr};
  recurrent::forward_steps("lstm_scan", length, h, weight, product, [&](int64_t t) {
    p.step = t;
    return kernels.forward(p, kernels.stream);
  });
  return {y, h, c, activated, cells};
}

inline Gradients backward_cuda(const Tensor& grad_y_in, const Tensor& grad_h_in, const Tensor& grad_c_in,
                               const Tensor& weight_in, const Tensor& activated, const Tensor& cells,
                               const OptionalTensor& h0_in, const OptionalTensor& c0_in,
                               const OptionalTensor& positions_in, const StepKernels& kernels) {
  const auto dtype = activated.scalar_type();
  const int64_t batch = activated.size(0), length = activated.size(1), hidden = weight_in.size(1);
  const Tensor grad_y = recurrent::output_gradient(grad_y_in, dtype), weight = in_compute_dtype(weight_in, dtype);
  const Tensor h0 = in_compute_dtype(h0_in, dtype), c0 = in_compute_dtype(c0_in, dtype);
  const Tensor positions = contiguous_if_given(positions_in);
  Tensor grad_h = recurrent::copied_state(grad_h_in, batch, hidden, activated.options());
  Tensor grad_c = recurrent::copied_state(grad_c_in, batch, hidden, activated.options());
  Tensor grad_gates = at::empty({batch, length, 4 * hidden}, activated.options());
  Tensor previous_h = at::empty({batch, length, hidden}, activated.options());
  LstmScanStepBackward p{batch,
                         length,
                         hidden,
                         0,
                         cuda::element_of(grad_y.scalar_type()),
                         activated.const_data_ptr(),
                         cells.const_data_ptr(),
                         recurrent::address_or_null(h0),
                         recurrent::address_or_null(c0),
                         data_or_null<int64_t>(positions),
                         grad_y.const_data_ptr(),
                         grad_y.stride(0),
                         grad_y.stride(1),
                         grad_h.mutable_data_ptr(),
                         grad_c.mutable_data_ptr(),
                         grad_gates.mutable_data_ptr(),
                         previous_h.mutable_data_ptr()};
  recurrent::backward_steps("lstm_scan", grad_gates, weight, positions, grad_h, [&](int64_t t) {
    p.step = t;
    return kernels.backward(p, kernels.stream);
  });
  const int64_t tokens = batch * length;
  Tensor grad_weight = at::mm(grad_gates.view({tokens, 4 * hidden}).t(), previous_h.view({tokens, hidden}));
  return {grad_gates, grad_weight, grad_h, grad_c};
}

}  // namespace hippodrome::lstm_scan_op
