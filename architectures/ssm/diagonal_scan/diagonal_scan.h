// The registered op hippodrome::diagonal_scan, called from C++.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace hippodrome {

// u [B, D, L] (fast where transpose(1, 2) is contiguous; so is y), discretised a, b, c [D, N] as real and imaginary
// parts, state [B, D, N, 2] (real, imaginary) or none for zeros, positions int64 [B, L] or none → y [B, D, L] (dtype of
// u) and the last state [B, D, N, 2]. The state is float32, or float64 for float64 u; u may be float32, float64 or
// bfloat16. Differentiable once in everything but positions. `reference` takes the plain loops. Equations: op.h.
std::tuple<at::Tensor, at::Tensor> diagonal_scan(const at::Tensor& u, const at::Tensor& a_real,
                                                 const at::Tensor& a_imag, const at::Tensor& b_real,
                                                 const at::Tensor& b_imag, const at::Tensor& c_real,
                                                 const at::Tensor& c_imag,
                                                 const std::optional<at::Tensor>& state = std::nullopt,
                                                 const std::optional<at::Tensor>& positions = std::nullopt,
                                                 bool reference = false);

}  // namespace hippodrome
