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
HIPPODROME_HOST_DEVICE float tanh_of(float x) { return ::tanhf(x); }
HIPPODROME_HOST_DEVICE double tanh_of(double x) { return ::tanh(x); }

// One instruction on a GPU, at most 1 unit in the last place off; 0 where the result would be below 2^-126.
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

// 2^x without the special-function unit, on which conversions and roundings to integers run, too: a polynomial of
// degree 6 on [-0.5, 0.5] (Taylor's; relative error below 3e-7), the integer part by a sum with 1.5 * 2^23, whose last
// bits it becomes, and no branches. Zero below -126.5, infinity from 127.5 on. Some 15 instructions in the place of
// one: it pays where that unit alone limits a kernel, not where the instructions that can be issued do.
HIPPODROME_HOST_DEVICE float exp2_on_fma(float x) {
  const float bounded = x < -127.0f ? -127.0f : x > 128.0f ? 128.0f : x;
  const float shifted = bounded + 12582912.0f, f = bounded - (shifted - 12582912.0f);
  float y = 1.5403530e-4f;
  y = ::fmaf(y, f, 1.3333558e-3f);
  y = ::fmaf(y, f, 9.6181291e-3f);
  y = ::fmaf(y, f, 5.5504109e-2f);
  y = ::fmaf(y, f, 2.4022651e-1f);
  y = ::fmaf(y, f, 6.9314718e-1f);
  y = ::fmaf(y, f, 1.0f);
  return y * float_of_bits((bits_of_float(shifted) << 23) + 0x3F800000u);
}

template <class S>
HIPPODROME_HOST_DEVICE S sigmoid(S x) {
  return S(1) / (S(1) + exp_of(-x));
}
template <class S>
HIPPODROME_HOST_DEVICE S silu(S x) {
  return x / (S(1) + exp_of(-x));
}
// d silu(x) / dx
template <class S>
HIPPODROME_HOST_DEVICE S silu_slope(S x) {
  const S s = sigmoid(x);
  return s * (S(1) + x * (S(1) - s));
}
// The identity above 20, as LibTorch has it.
template <class S>
HIPPODROME_HOST_DEVICE S softplus(S x) {
  return x > S(20) ? x : log1p_of(exp_of(x));
}
template <class S>
HIPPODROME_HOST_DEVICE S softplus_slope(S x) {
  return x > S(20) ? S(1) : sigmoid(x);
}

}  // namespace hippodrome::cuda
