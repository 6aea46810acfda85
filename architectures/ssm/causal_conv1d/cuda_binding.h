// From LibTorch tensors to the CUDA kernels of causal_conv1d. What starts the kernels is an argument, so that tests run
// this with CPU tensors and emulated kernels.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <initializer_list>
#include <string_view>
#include <tuple>

#include "architectures/ssm/causal_conv1d/binding.h"
#include "architectures/ssm/causal_conv1d/cuda.h"
#include "architectures/ssm/token_list_binding.h"
#include "core/cuda/binding.h"
#include "core/tensor/op_binding.h"

namespace hippodrome::causal_conv1d_op {

struct CudaKernels {
  const char* (*forward)(const CausalConv1dCudaForward&, void* stream);
  const char* (*backward)(const CausalConv1dCudaBackward&, void* stream);
  void* stream = nullptr;
};

inline CausalConv1dCudaSequence cuda_sequence(const Tensor& x) {
  return {x.const_data_ptr(), x.stride(0), x.stride(2)};
}
inline const void* address_or_null(const Tensor& t) { return t.defined() ? t.const_data_ptr() : nullptr; }

// Inputs as the kernels take them, x in its own dtype, and what holds their memory.
struct CudaInputs {
  CausalConv1dCudaForward params;
  Tensor x, weight, bias, initial_state, positions, tokens;

  CudaInputs(const Tensor& x_in, const Tensor& weight_in, const OptionalTensor& bias_in, std::string_view activation,
             const OptionalTensor& initial_state_in, const OptionalTensor& positions_in) {
    check_inputs(x_in, weight_in, bias_in, activation, initial_state_in, positions_in);
    for (const OptionalTensor& t : {OptionalTensor(weight_in), bias_in, initial_state_in, positions_in}) {
      TORCH_CHECK(!given(t) || t->device() == x_in.device(), "causal_conv1d: all tensors must be on x's device");
    }
    const at::ScalarType type = compute_dtype(x_in);
    x = channels_adjacent(x_in);
    weight = in_compute_dtype(weight_in, type);
    bias = in_compute_dtype(bias_in, type);
    initial_state = in_compute_dtype(initial_state_in, type);
    positions = contiguous_if_given(positions_in);
    params.batch = x.size(0), params.channels = x.size(1), params.time = x.size(2), params.taps = weight.size(1);
    params.silu = !activation.empty();
    params.element = cuda::element_of(x.scalar_type());
    params.tokens = cuda::token_list(positions, params.batch, params.time, tokens);
    params.x = cuda_sequence(x);
    params.weight = weight.const_data_ptr();
    params.bias = address_or_null(bias);
    params.initial_state = address_or_null(initial_state);
  }
};

// `state` undefined: a final state of its own.
inline std::tuple<Tensor, Tensor> forward_on_gpu(const CudaKernels& kernels, CudaInputs in, Tensor state) {
  CausalConv1dCudaForward& p = in.params;
  const Tensor y = empty_channels_last(in.x, in.x.scalar_type());
  if (!state.defined()) state = at::empty({p.batch, p.channels, p.taps - 1}, in.weight.options());
  p.y = y.mutable_data_ptr();
  p.final_state = state.mutable_data_ptr();
  cuda::check_started("causal_conv1d", kernels.forward(p, kernels.stream));
  return {y, state};
}

inline std::tuple<Tensor, Tensor> cuda_forward(const CudaKernels& kernels, const Tensor& x, const Tensor& weight,
                                               const OptionalTensor& bias, std::string_view activation,
                                               const OptionalTensor& initial_state, const OptionalTensor& positions,
                                               bool reference) {
  TORCH_CHECK(!reference, "causal_conv1d_reference runs on the CPU only");
  return forward_on_gpu(kernels, CudaInputs(x, weight, bias, activation, initial_state, positions), Tensor());
}

inline Tensor cuda_in_place(const CudaKernels& kernels, const Tensor& x, const Tensor& weight,
                            const OptionalTensor& bias, std::string_view activation, const Tensor& state,
                            const OptionalTensor& positions) {
  check_in_place(x, state);
  return std::get<0>(forward_on_gpu(kernels, CudaInputs(x, weight, bias, activation, state, positions), state));
}

inline std::tuple<Tensor, Tensor, Tensor, Tensor> cuda_backward(
    const CudaKernels& kernels, const OptionalTensor& grad_y, const OptionalTensor& grad_final_state, const Tensor& x,
    const Tensor& weight, const OptionalTensor& bias, std::string_view activation, const OptionalTensor& initial_state,
    const OptionalTensor& positions, bool reference) {
  TORCH_CHECK(!reference, "causal_conv1d_reference runs on the CPU only");
  const CudaInputs in(x, weight, bias, activation, initial_state, positions);
  const at::ScalarType type = compute_dtype(x);
  CausalConv1dCudaBackward p;
  p.forward = in.params;
  const int64_t batch = p.forward.batch, channels = p.forward.channels, taps = p.forward.taps;
  Tensor gy;
  if (given(grad_y)) {
    gy = channels_adjacent(grad_y->to(x.scalar_type()));
    p.grad_y = cuda_sequence(gy);
  }
  const Tensor gs = in_compute_dtype(grad_final_state, type);
  p.grad_final_state = address_or_null(gs);
  const auto options = in.weight.options();
  const Tensor grad_x = empty_channels_last(in.x, in.x.scalar_type());
  const Tensor rows = at::empty({causal_conv1d_gradient_rows(batch, p.forward.time), taps + 1, channels}, options);
  const Tensor grad_state = at::empty({batch, channels, taps - 1}, options);
  p.grad_x = grad_x.mutable_data_ptr();
  p.grad_parameter_rows = rows.mutable_data_ptr();
  p.grad_initial_state = grad_state.mutable_data_ptr();
  cuda::check_started("causal_conv1d", kernels.backward(p, kernels.stream));
  const Tensor sums = rows.sum(0);  // [K + 1, D]
  const auto like = [](const Tensor& t, const OptionalTensor& input) {
    return given(input) ? t.to(input->scalar_type()) : t;
  };
  return {grad_x, like(sums.narrow(0, 0, taps).t().contiguous(), weight), like(sums.select(0, taps), bias),
          like(grad_state, initial_state)};
}

}  // namespace hippodrome::causal_conv1d_op
