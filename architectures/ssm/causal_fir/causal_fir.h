// The registered op hippodrome::causal_fir, called from C++.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace hippodrome {

// x [B, L, D], weight [K, D] (the newest input's tap first), state [B, K, D] (the last K inputs, oldest first) or none
// for zeros, positions int64 [B, L] or none → y [B, L, D] (dtype of x) and the last state [B, K, D]. The state is
// float32, or float64 for float64 x; x may be float32, float64 or bfloat16. Differentiable once in everything but
// positions. `reference` takes the plain loops. Equations: op.h. Throws c10::Error on shapes or dtypes that do not fit.
std::tuple<at::Tensor, at::Tensor> causal_fir(const at::Tensor& x, const at::Tensor& weight,
                                              const std::optional<at::Tensor>& state = std::nullopt,
                                              const std::optional<at::Tensor>& positions = std::nullopt,
                                              bool reference = false);

}  // namespace hippodrome
