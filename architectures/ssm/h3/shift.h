#pragma once

#include "core/tensor/tensor.h"

namespace hippodrome {

// The taps of a shift model h_t = S h_{t-1} + B u_t, y_t = C · h_t, where S moves every entry one place on:
//   K_l = C S^l B = Σ_n C_{n+l} B_n,  l < N
// the correlation of B and C, by FFT padded to 2N, so that nothing wraps around. B and C [D, N] float64; result [D, N].
Tensor shift_taps(const Tensor& B, const Tensor& C);

}  // namespace hippodrome
