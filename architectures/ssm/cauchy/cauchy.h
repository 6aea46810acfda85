// The registered op hippodrome::cauchy, called from C++.
#pragma once

#include <ATen/core/Tensor.h>

namespace hippodrome {

// v [H, M, N, 2] and lambda [H, N, 2], pairs (real, imaginary) of one float32 or float64 dtype → the Cauchy sums
// [H, M, length/2 + 1, 2] at the nodes of a real transform of `length`. Differentiable once. `reference` takes the
// plain loops. Equations: op.h.
at::Tensor cauchy(const at::Tensor& v, const at::Tensor& lambda, int64_t length, bool reference = false);

}  // namespace hippodrome
