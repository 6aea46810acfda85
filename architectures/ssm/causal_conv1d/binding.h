// What the CPU and the CUDA operators of causal_conv1d ask of their arguments.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <string_view>

#include "architectures/ssm/causal_conv1d/op.h"
#include "core/tensor/op_binding.h"

namespace hippodrome::causal_conv1d_op {

inline void check_inputs(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, std::string_view activation,
                         const OptionalTensor& initial_state, const OptionalTensor& positions) {
  TORCH_CHECK(x.dim() == 3 && x.is_floating_point(),
              "causal_conv1d: x must be [B, D, L] of a floating-point dtype, but it is ", x.scalar_type(), " with ",
              x.dim(), " axes");
  const c10::SymInt channels = x.sym_size(1);
  TORCH_CHECK(weight.dim() == 2 && weight.sym_size(0) == channels,
              "causal_conv1d: weight must be [D, K] with D = ", channels, ", but it is ", weight.sym_sizes());
  const c10::SymInt taps = weight.sym_size(1);
  TORCH_CHECK(taps >= 1 && taps <= kCausalConv1dMaxTaps, "causal_conv1d: weight must have 1 to ", kCausalConv1dMaxTaps,
              " taps, but it has ", taps);
  TORCH_CHECK(activation.empty() || activation == "silu",
              "causal_conv1d: activation must be \"\" or \"silu\", but it is \"", activation, "\"");
  if (given(bias)) {
    TORCH_CHECK(bias->dim() == 1 && bias->sym_size(0) == channels,
                "causal_conv1d: bias must be [D] with D = ", channels, ", but it is ", bias->sym_sizes());
  }
  if (given(initial_state)) {
    TORCH_CHECK(initial_state->dim() == 3 && initial_state->sym_size(0) == x.sym_size(0) &&
                    initial_state->sym_size(1) == channels && initial_state->sym_size(2) == taps - 1,
                "causal_conv1d: initial_state must be [B, D, K-1] = [", x.sym_size(0), ", ", channels, ", ", taps - 1,
                "], but it is ", initial_state->sym_sizes());
  }
  if (given(positions)) {
    TORCH_CHECK(positions->scalar_type() == at::kLong && positions->dim() == 2 &&
                    positions->sym_size(0) == x.sym_size(0) && positions->sym_size(1) == x.sym_size(2),
                "causal_conv1d: positions must be int64 [B, L] = [", x.sym_size(0), ", ", x.sym_size(2),
                "], but they are ", positions->scalar_type(), " ", positions->sym_sizes());
  }
}

// Of an update in place.
inline void check_in_place(const Tensor& x, const Tensor& state) {
  TORCH_CHECK(!at::GradMode::is_enabled() && state.is_contiguous() && state.scalar_type() == compute_dtype(x),
              "causal_conv1d_in_place: needs a contiguous state in the working dtype and no gradients");
}

// [B, D, L] with channels adjacent in memory: itself where that holds, else a copy.
inline Tensor channels_adjacent(const Tensor& x) {
  if (x.stride(1) == 1 || x.size(1) <= 1) return x;
  return x.transpose(1, 2).contiguous().transpose(1, 2);
}

}  // namespace hippodrome::causal_conv1d_op
