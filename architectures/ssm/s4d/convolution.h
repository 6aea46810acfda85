#pragma once

#include "core/tensor/tensor.h"

namespace hippodrome {

// K_l = 2 Re Σ_n w_n e^{l θ_n}, l < length: the convolution kernel of a diagonal system with w = C b and θ = log a (Gu
// et al. 2022, equation 4). Inputs [H, N/2] float64; result [H, length] in `dtype`. Differentiable once.
//
// A Vandermonde product: l = j S + i with S ≈ √L makes it one real matrix product [L/S, N] × [N, S] per channel of the
// tables w e^{jSθ} and e^{iθ}, so that √L exponentials a mode are taken instead of L, each exact (phases in float64),
// and nothing of size H × N × L is ever held.
Tensor vandermonde_kernel(const Tensor& w_real, const Tensor& w_imag, const Tensor& theta_real,
                          const Tensor& theta_imag, int64_t length, at::ScalarType dtype);

// Causal convolution over time by FFT: y_t = Σ_{s ≤ t} K_{t-s} u_s with u [B, L, H], kernel [H, L], both float32 or
// float64; y [B, L, H]. Of M kernels a channel, [H, M, L], y is [B, L, H, M]. Padded to 2L, so that nothing wraps
// around.
Tensor fft_convolution(const Tensor& u, const Tensor& kernel);

}  // namespace hippodrome
