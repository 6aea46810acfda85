// From LibTorch tensors to the steps of the CUDA kernels; the loop over them is step_loop.h's.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "architectures/recurrent/lstm_scan/binding.h"
#include "architectures/recurrent/lstm_scan/cuda.h"
#include "architectures/recurrent/step_loop.h"

namespace hippodrome::lstm_scan_op {

using StepKernels = recurrent::StepKernels<LstmScanStep, LstmScanStepBackward>;

inline Saved forward_cuda(const Tensor& gates, const Tensor& weight_hh, const OptionalTensor& h0,
                          const OptionalTensor& c0, const OptionalTensor& positions, bool save,
                          const StepKernels& kernels) {
  check(gates, weight_hh, h0, c0, positions);
  auto [y, h, c, activated, cells] = make_outputs(gates, weight_hh, save);
  recurrent::begin_with(h0, h);
  recurrent::begin_with(c0, c);
  LstmScanStep p;
  p.c = c.mutable_data_ptr();
  recurrent::scan("lstm_scan", p, gates, weight_hh, positions, y, h, activated, cells, kernels);
  return {y, h, c, activated, cells};
}

inline Gradients backward_cuda(const Tensor& grad_y, const Tensor& grad_h, const Tensor& grad_c_in,
                               const Tensor& weight_hh, const Tensor& activated, const Tensor& cells,
                               const OptionalTensor& h0, const OptionalTensor& c0_in, const OptionalTensor& positions,
                               const StepKernels& kernels) {
  const Tensor c0 = in_compute_dtype(c0_in, activated.scalar_type());
  Tensor grad_c = at::empty({activated.size(0), weight_hh.size(1)}, activated.options());
  recurrent::begin_with(grad_c_in, grad_c);
  LstmScanStepBackward p;
  p.c0 = recurrent::address_or_null(c0);
  p.grad_c = grad_c.mutable_data_ptr();
  const auto grad = recurrent::differentiate_scan("lstm_scan", p, grad_y, grad_h, weight_hh, activated, cells, h0,
                                                  positions, kernels);
  return {grad.products, grad.weight, grad.h, grad_c};
}

}  // namespace hippodrome::lstm_scan_op
