// The registered op hippodrome::lstm_scan, called from C++.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace hippodrome {

// gates [B, L, 4H] (i, f, g, o: the input projection W_ih x + b), weight_hh [4H, H], h0 and c0 [B, H] or none for
// zeros, positions int64 [B, L] or none → y [B, L, H] (dtype of gates), final h and c [B, H]. States are float32, or
// float64 for float64 gates; gates may be float32, float64, bfloat16 or float16. Differentiable once in gates,
// weight_hh, h0 and c0. `reference` takes the plain loops. Equations: op.h.
std::tuple<at::Tensor, at::Tensor, at::Tensor> lstm_scan(const at::Tensor& gates, const at::Tensor& weight_hh,
                                                         const std::optional<at::Tensor>& h0 = std::nullopt,
                                                         const std::optional<at::Tensor>& c0 = std::nullopt,
                                                         const std::optional<at::Tensor>& positions = std::nullopt,
                                                         bool reference = false);

}  // namespace hippodrome
