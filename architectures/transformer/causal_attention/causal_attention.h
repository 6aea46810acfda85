// The registered op hippodrome::causal_attention, called from C++.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <tuple>

namespace hippodrome {

// q [B, H, L, hd], k, v [B, G, T, hd], G a divisor of H and T ≥ L, any strides (fast where hd is contiguous) → y [B, H, L,
// hd] in q's dtype (stored as [B, L, H, hd]) and the logarithms of the softmax's sums, [B, H, L] in float32 or, for
// float64, float64. The queries are the last L of the T tokens. scale: none for 1/√hd. window: tokens that a query sees,
// with its own; 0 for all. positions int64 [B, T], of all tokens, or none for plain rows. float32, float64 or bfloat16.
// Memory besides the results is O(hd) a thread forward, and O(T hd) a key head backward. Differentiable once in q, k and v.
// `reference` takes the plain loops. Equations: op.h.
std::tuple<at::Tensor, at::Tensor> causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                    std::optional<double> scale = std::nullopt, int64_t window = 0,
                                                    const std::optional<at::Tensor>& positions = std::nullopt,
                                                    bool reference = false);

}  // namespace hippodrome
