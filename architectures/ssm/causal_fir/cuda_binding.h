// From LibTorch tensors to the CUDA kernels of causal_fir. What starts the kernels is an argument, so that tests run
// this with CPU tensors and emulated kernels.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sum.h>
#include <c10/util/Exception.h>

#include "architectures/ssm/causal_fir/binding.h"
#include "architectures/ssm/causal_fir/cuda.h"
#include "architectures/ssm/token_list_binding.h"
#include "core/cuda/binding.h"
#include "core/tensor/op_binding.h"

namespace hippodrome::causal_fir_op {

struct CudaKernels {
  const char* (*forward)(const CausalFirCudaForward&, void* stream);
  const char* (*backward)(const CausalFirCudaBackward&, void* stream);
  void* stream = nullptr;
};

// Inputs as the kernels take them, and what holds their memory.
struct CudaInputs {
  CausalFirCudaForward params;
  Tensor x, weight, state, positions, tokens;

  CudaInputs(const Tensor& x_in, const Tensor& weight_in, const OptionalTensor& state_in,
             const OptionalTensor& positions_in, bool reference) {
    TORCH_CHECK(!reference, "causal_fir_reference runs on the CPU only");
    check(x_in, weight_in, state_in, positions_in);
    for (const OptionalTensor& t : {OptionalTensor(weight_in), state_in, positions_in}) {
      TORCH_CHECK(!given(t) || t->device() == x_in.device(), "causal_fir: all tensors must be on x's device");
    }
    const auto dtype = compute_dtype(x_in);
    x = in_compute_dtype(x_in, dtype);
    weight = in_compute_dtype(weight_in, dtype);
    state = in_compute_dtype(state_in, dtype);
    positions = contiguous_if_given(positions_in);
    params.batch = x.size(0), params.length = x.size(1), params.channels = x.size(2), params.taps = weight.size(0);
    params.is_double = dtype == at::kDouble;
    params.tokens = cuda::token_list(positions, params.batch, params.length, tokens);
    params.x = x.const_data_ptr();
    params.weight = weight.const_data_ptr();
    params.state = state.defined() ? state.const_data_ptr() : nullptr;
  }
};

inline Outputs cuda_forward(const CudaKernels& kernels, const Tensor& x, const Tensor& weight,
                            const OptionalTensor& state, const OptionalTensor& positions, bool reference) {
  CudaInputs in(x, weight, state, positions, reference);
  const auto [y, last_state] = make_outputs(x, weight, compute_dtype(x));
  in.params.y = y.mutable_data_ptr();
  in.params.last_state = last_state.mutable_data_ptr();
  cuda::check_started("causal_fir", kernels.forward(in.params, kernels.stream));
  return {y.to(x.scalar_type()), last_state};
}

inline Gradients cuda_backward(const CudaKernels& kernels, const Tensor& grad_y_in, const Tensor& grad_last_state_in,
                               const Tensor& x, const Tensor& weight, const OptionalTensor& state,
                               const OptionalTensor& positions, bool reference) {
  const CudaInputs in(x, weight, state, positions, reference);
  const auto dtype = compute_dtype(x);
  const Tensor grad_y = in_compute_dtype(grad_y_in, dtype);
  const Tensor grad_last_state = in_compute_dtype(grad_last_state_in, dtype);
  auto [grad_x, grad_weight, grad_state] = make_gradients(x, weight);
  CausalFirCudaBackward p;
  p.forward = in.params;
  const CausalFirCudaForward& f = p.forward;
  const Tensor rows =
      at::empty({f.batch * causal_fir_segments(f.length, f.taps), f.taps, f.channels}, grad_weight.options());
  p.grad_y = grad_y.const_data_ptr();
  p.grad_last_state = grad_last_state.const_data_ptr();
  p.grad_x = grad_x.mutable_data_ptr();
  p.grad_weight_rows = rows.mutable_data_ptr();
  p.grad_state = grad_state.mutable_data_ptr();
  cuda::check_started("causal_fir", kernels.backward(p, kernels.stream));
  at::sum_out(grad_weight, rows, 0);
  return {grad_x, grad_weight, grad_state};
}

}  // namespace hippodrome::causal_fir_op
