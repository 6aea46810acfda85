#include "architectures/ssm/carried_convolution.h"

#include <ATen/core/grad_mode.h>

#include "architectures/ssm/causal_conv1d/causal_conv1d.h"

namespace hippodrome {

Tensor carried_convolution(const Tensor& x, const ParameterPtr& weight, const ParameterPtr& bias,
                           const OptionalTensor& positions, bool reference, State* state) {
  const Tensor w = weight->cast(x);
  const OptionalTensor b = bias ? OptionalTensor(bias->cast(x)) : std::nullopt;
  if (state && !reference && !at::GradMode::is_enabled() && x.is_cuda()) {
    return causal_conv1d_in_place(x, w, b, "silu", state->get("conv"), positions);
  }
  const auto [y, final_state] = (reference ? causal_conv1d_reference : causal_conv1d)(
      x, w, b, "silu", state ? OptionalTensor(state->get("conv")) : std::nullopt, positions);
  if (state) state->put("conv", final_state);
  return y;
}

}  // namespace hippodrome
