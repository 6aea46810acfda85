#pragma once

#include "core/layer/parameters.h"
#include "core/layer/state.h"
#include "core/tensor/tensor.h"

namespace hippodrome {

// The convolution before a selective scan: SiLU of causal_conv1d over x [B, D, L], with weight [D, K] and bias [D] or
// null. With a state its entry "conv" [B, D, K-1] is the window before x and moves on; in inference on a GPU in place,
// so that a token is one kernel. `reference` takes the plain loops. Returns [B, D, L] in x's dtype.
Tensor carried_convolution(const Tensor& x, const ParameterPtr& weight, const ParameterPtr& bias,
                           const OptionalTensor& positions, bool reference, State* state);

}  // namespace hippodrome
