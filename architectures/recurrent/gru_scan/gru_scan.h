// The registered op hippodrome::gru_scan, called from C++.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace hippodrome {

// gates [B, L, 3H] (r, z, n: the input projection W_ih x + b, with b_hr and b_hz added in), weight_hh [3H, H],
// bias_hn [H], h0 [B, H] or none for zeros, positions int64 [B, L] or none → y [B, L, H] (dtype of gates), final h [B,
// H]. The state is float32, or float64 for float64 gates; gates may be float32, float64, bfloat16 or float16.
// Differentiable once in gates, weight_hh, bias_hn and h0. `reference` takes the plain loops. Equations: op.h.
std::tuple<at::Tensor, at::Tensor> gru_scan(const at::Tensor& gates, const at::Tensor& weight_hh,
                                            const at::Tensor& bias_hn,
                                            const std::optional<at::Tensor>& h0 = std::nullopt,
                                            const std::optional<at::Tensor>& positions = std::nullopt,
                                            bool reference = false);

}  // namespace hippodrome
