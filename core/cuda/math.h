// The elementary functions of the CUDA kernels, the same source on both machines. `S` is float or double.
#pragma once

#include <cmath>

#include "core/cuda/element.h"

namespace hippodrome::cuda {

inline constexpr double kLog2E = 1.4426950408889634;

// One instruction on a GPU, where results below 2^-126 become zero; exp2f spends three more on them.
HIPPODROME_HOST_DEVICE float exp2_of(float x) {
#ifdef __CUDA_ARCH__
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return ::exp2f(x);
#endif
}
HIPPODROME_HOST_DEVICE double exp2_of(double x) { return ::exp2(x); }
HIPPODROME_HOST_DEVICE float exp_of(float x) { return ::expf(x); }
HIPPODROME_HOST_DEVICE double exp_of(double x) { return ::exp(x); }
HIPPODROME_HOST_DEVICE float log1p_of(float x) { return ::log1pf(x); }
HIPPODROME_HOST_DEVICE double log1p_of(double x) { return ::log1p(x); }
HIPPODROME_HOST_DEVICE float sqrt_of(float x) { return ::sqrtf(x); }
HIPPODROME_HOST_DEVICE double sqrt_of(double x) { return ::sqrt(x); }
HIPPODROME_HOST_DEVICE float absolute_of(float x) { return ::fabsf(x); }
HIPPODROME_HOST_DEVICE double absolute_of(double x) { return ::fabs(x); }
HIPPODROME_HOST_DEVICE float tanh_of(float x) { return ::tanhf(x); }
HIPPODROME_HOST_DEVICE double tanh_of(double x) { return ::tanh(x); }

// One instruction on a GPU, where a division takes ten and a branch; at most 1 unit in the last place off; 0 where the
// result would be below 2^-126.
HIPPODROME_HOST_DEVICE float reciprocal_of(float x) {
#ifdef __CUDA_ARCH__
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return 1.0f / x;
#endif
}
HIPPODROME_HOST_DEVICE double reciprocal_of(double x) { return 1.0 / x; }

template <class S>
HIPPODROME_HOST_DEVICE S larger(S a, S b) {
  return a > b ? a : b;
}

// Relative errors of float32 grow with |x|, as those of x log2 e do: 3e-7 at 4, 1e-6 at 16.
template <class S>
HIPPODROME_HOST_DEVICE S sigmoid(S x) {
  return reciprocal_of(S(1) + exp2_of(S(-kLog2E) * x));
}
template <class S>
HIPPODROME_HOST_DEVICE S silu(S x) {
  return x * sigmoid(x);
}
// d silu(x) / dx
template <class S>
HIPPODROME_HOST_DEVICE S silu_slope(S x) {
  const S s = sigmoid(x);
  return s * (S(1) + x * (S(1) - s));
}
// The identity above 20, as LibTorch has it.
HIPPODROME_HOST_DEVICE double softplus(double x) { return x > 20.0 ? x : log1p_of(exp_of(x)); }
// max(x, 0) + log(1 + e) with e = exp(-|x|), and log(1 + e) = 2 artanh(s) with s = e / (2 + e): an odd polynomial of
// s <= 1/3 (minimax, 4e-9), without branches and with all digits where e is small, as most step sizes are. Above 20 it
// is x by itself.
HIPPODROME_HOST_DEVICE float softplus(float x) {
  const float e = exp2_of(static_cast<float>(-kLog2E) * ::fabsf(x)), s = e * reciprocal_of(2.0f + e), square = s * s;
  float y = 0.28178335f;
  y = ::fmaf(y, square, 0.27960603f);
  y = ::fmaf(y, square, 0.40024910f);
  y = ::fmaf(y, square, 0.66666315f);
  y = ::fmaf(y, square, 2.0f);
  return ::fmaf(y, s, ::fmaxf(x, 0.0f));
}
template <class S>
HIPPODROME_HOST_DEVICE S softplus_slope(S x) {
  return x > S(20) ? S(1) : sigmoid(x);
}

}  // namespace hippodrome::cuda
