// SwiGLU's gate (Shazeer 2020, "GLU Variants Improve Transformer", equation 6) of n rows, each a gate g and a value v of
// width F side by side, with σ the logistic function:
//
//   y = g σ(g) v,    ∂g = ∂y v σ(g) (1 + g (1 - σ(g))),    ∂v = ∂y g σ(g)
//
// One pass forward and one backward, which keeps nothing but its input.
#pragma once

#include <cstdint>

namespace hippodrome {

template <class T>
struct SwigluForward {
  int64_t rows, width;  // n, F
  const T* h;           // [n, 2F]: gates, values
  T* y;                 // [n, F]
};

template <class T>
struct SwigluBackward {
  int64_t rows, width;
  const T* h;       // [n, 2F]
  const T* grad_y;  // [n, F]
  T* grad_h;        // [n, 2F]
};

// Over rows [begin, end).
template <class T>
void swiglu_forward(const SwigluForward<T>& p, int64_t begin, int64_t end);
template <class T>
void swiglu_backward(const SwigluBackward<T>& p, int64_t begin, int64_t end);

}  // namespace hippodrome
