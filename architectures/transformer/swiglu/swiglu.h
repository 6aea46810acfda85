// The registered op hippodrome::swiglu, called from C++.
#pragma once

#include <ATen/core/Tensor.h>

namespace hippodrome {

// h [..., 2F], gates then values → silu(gate) ∘ value, [..., F] in h's dtype: float32, float64 or bfloat16 (computed in
// float32). Differentiable once. `reference` takes the plain loops. On devices other than the CPU LibTorch's operators.
at::Tensor swiglu(const at::Tensor& h, bool reference = false);

}  // namespace hippodrome
