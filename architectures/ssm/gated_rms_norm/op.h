// RMSNorm with a gate, at the end of Mamba-2's mixer (Dao & Gu 2024, arXiv 2405.21060, section 7.1; RMSNorm: Zhang &
// Sennrich 2019, equation 4). No LibTorch here. Per row and group of m = W / G neighbouring channels, with g = SiLU(z):
//
//   u = x g,  y = u s w            the norm of what is gated
//   u = x,    y = u s w g          norm_before_gate
//
//   s = 1 / sqrt(sum_i u_i^2 / m + epsilon)
//
// Backward, with e the gradient of u s w (dy, or dy g), s kept by forward and all else made anew:
//
//   du = s (w e - u s^2 / m sum_i w_i e_i u_i)        dw = sum over rows of e u s
//   dx = du g,  dz = du x SiLU'(z)                    the norm of what is gated
//   dx = du,    dz = dy x s w SiLU'(z)                norm_before_gate
//
// with SiLU'(z) = q (1 + z (1 - q)), q = 1 / (1 + e^-z).
//
// Per channel 10 sums, products, quotients and elementary functions, and 4 per group.
#pragma once

#include <cstdint>

namespace hippodrome::gated_rms_norm_op {

struct Sizes {
  int64_t rows = 0, width = 0, groups = 1;  // n, W, G
  double epsilon = 0.0;
  bool norm_before_gate = false;

  int64_t group_width() const { return width / groups; }
};

// Row r begins at data + r * stride and is contiguous.
template <class T>
struct Rows {
  const T* data = nullptr;
  int64_t stride = 0;
};

template <class T>
struct Forward {
  Sizes sizes;
  Rows<T> x{}, z{};           // [n, W]
  const T* weight = nullptr;  // [W]
  T* y = nullptr;             // [n, W] contiguous
  T* scale = nullptr;         // [n, G]: s
};

template <class T>
struct Backward {
  Sizes sizes;
  Rows<T> x{}, z{}, grad_y{};  // [n, W]
  const T* weight = nullptr;   // [W]
  const T* scale = nullptr;    // [n, G]
  T* grad_x = nullptr;         // [n, W] contiguous
  T* grad_z = nullptr;         // the same
  // [parts(n), W]: part p sums over rows [n p / parts, n (p + 1) / parts); to be added in order. The reference fills
  // the first and clears the others.
  T* grad_weight_parts = nullptr;
};

// Depends on the number of rows alone, so that results do not depend on that of threads.
inline int64_t parts(int64_t rows) { return rows < 32 ? 1 : rows < 512 ? rows / 16 : 32; }

// The CPU kernels (cpu.cpp): Highway, instruction set chosen at run time. T is float or double.
template <class T>
void forward_rows(const Forward<T>& p, int64_t begin, int64_t end);
template <class T>
void backward_parts(const Backward<T>& p, int64_t begin, int64_t end);

}  // namespace hippodrome::gated_rms_norm_op
