// The equations of op.h in plain loops, over any scalar with + - * / and exp.
#pragma once

#include <cmath>
#include <cstdint>

#include "architectures/transformer/swiglu/op.h"

namespace hippodrome {

template <class T>
T swiglu_logistic(T x) {
  using std::exp;
  return T(1) / (T(1) + exp(-x));
}

template <class T>
void swiglu_forward_reference(const SwigluForward<T>& p) {
  for (int64_t row = 0; row < p.rows; ++row) {
    const T *gate = p.h + row * 2 * p.width, *value = gate + p.width;
    for (int64_t i = 0; i < p.width; ++i) p.y[row * p.width + i] = gate[i] * swiglu_logistic(gate[i]) * value[i];
  }
}

template <class T>
void swiglu_backward_reference(const SwigluBackward<T>& p) {
  for (int64_t row = 0; row < p.rows; ++row) {
    const T *gate = p.h + row * 2 * p.width, *value = gate + p.width;
    T *grad_gate = p.grad_h + row * 2 * p.width, *grad_value = grad_gate + p.width;
    for (int64_t i = 0; i < p.width; ++i) {
      const T s = swiglu_logistic(gate[i]), grad = p.grad_y[row * p.width + i];
      grad_gate[i] = grad * value[i] * s * (T(1) + gate[i] * (T(1) - s));
      grad_value[i] = grad * gate[i] * s;
    }
  }
}

}  // namespace hippodrome
