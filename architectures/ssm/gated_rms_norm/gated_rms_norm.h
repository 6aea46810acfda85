// The op hippodrome::gated_rms_norm, called from C++; the equations are in op.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace hippodrome {

struct GatedRmsNormOptions {
  int64_t groups = 1;  // G, each with a norm of its own
  double epsilon = 1e-5;
  bool norm_before_gate = false;
};

// y [..., W] = the RMSNorm of x SiLU(z) over each of G groups of neighbouring channels, times weight; or, norm before
// gate, that of x, times weight SiLU(z). x and z [..., W] of one dtype, float32, float64, bfloat16 or float16, weight
// [W] of any of these; y has the dtype of x. Computed in float64 for float64, else in float32. Differentiable once, in
// all three; kept for backward are these and a number per row and group. z may be a slice of a wider matrix: rows with
// contiguous channels are read where they are. On the CPU and on CUDA; the same bits however many threads there are.
// Throws c10::Error on shapes or dtypes that do not fit.
at::Tensor gated_rms_norm(const at::Tensor& x, const at::Tensor& z, const at::Tensor& weight,
                          const GatedRmsNormOptions& options = {});

// The same by plain loops, forward and backward, on the CPU.
at::Tensor gated_rms_norm_reference(const at::Tensor& x, const at::Tensor& z, const at::Tensor& weight,
                                    const GatedRmsNormOptions& options = {});

}  // namespace hippodrome
