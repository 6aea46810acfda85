// The registered op hippodrome::dplr_scan, called from C++.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace hippodrome {

// u [B, D, L] (fast where transpose(1, 2) is contiguous; so is y), discretised a, b, c [D, N, 2] and the low-rank
// part's q, w [D, R, N, 2] as pairs (real, imaginary) with R = 1 or 2, state [B, D, N, 2] or none for zeros, positions
// int64 [B, L] or none → y [B, D, L] (dtype of u) and the last state [B, D, N, 2]. The state is float32, or float64 for
// float64 u; u may be float32, float64 or bfloat16. Differentiable once in everything but positions. `reference` takes
// the plain loops. Equations: op.h.
std::tuple<at::Tensor, at::Tensor> dplr_scan(const at::Tensor& u, const at::Tensor& a, const at::Tensor& b,
                                             const at::Tensor& c, const at::Tensor& q, const at::Tensor& w,
                                             const std::optional<at::Tensor>& state = std::nullopt,
                                             const std::optional<at::Tensor>& positions = std::nullopt,
                                             bool reference = false);

}  // namespace hippodrome
