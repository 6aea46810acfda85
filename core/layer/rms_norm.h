#pragma once

#include "core/tensor/tensor.h"

namespace hippodrome {

// y = x / √(mean(x²) + ε) ∘ weight over the last dimension (Zhang & Sennrich 2019, equation 4). x [..., D] float32 or float64,
// weight [D] of the same dtype. One pass forward and one backward, where the composite form in LibTorch takes seven.
// Differentiable once. On other devices than the CPU LibTorch's rms_norm, which is fused on CUDA.
Tensor rms_norm(const Tensor& x, const Tensor& weight, double epsilon);

}  // namespace hippodrome
