// Plain loops of gated_rms_norm, the oracle. `S` needs + - * /, a conversion from double, and exp and sqrt found by
// argument-dependent lookup. Equations: op.h.
#pragma once

#include <cmath>
#include <cstdint>

#include "architectures/ssm/gated_rms_norm/op.h"

namespace hippodrome::gated_rms_norm_op {

template <class S>
S sigmoid_reference(S x) {
  using std::exp;
  return S(1.0) / (S(1.0) + exp(S(0.0) - x));
}

template <class S>
void forward_reference(const Forward<S>& p) {
  using std::sqrt;
  const int64_t W = p.sizes.width, G = p.sizes.groups, m = p.sizes.group_width();
  for (int64_t item = 0; item < p.sizes.rows * G; ++item) {
    const int64_t row = item / G, first = item % G * m;
    const S *x = p.x.data + row * p.x.stride + first, *z = p.z.data + row * p.z.stride + first;
    const S* w = p.weight + first;
    S* y = p.y + row * W + first;
    S squares = S(0.0);
    for (int64_t i = 0; i < m; ++i) {
      y[i] = p.sizes.norm_before_gate ? x[i] : x[i] * (z[i] * sigmoid_reference(z[i]));
      squares = squares + y[i] * y[i];
    }
    const S s = S(1.0) / sqrt(squares / S(static_cast<double>(m)) + S(p.sizes.epsilon));
    p.scale[item] = s;
    for (int64_t i = 0; i < m; ++i) {
      y[i] = y[i] * s * w[i];
      if (p.sizes.norm_before_gate) y[i] = y[i] * (z[i] * sigmoid_reference(z[i]));
    }
  }
}

template <class S>
void backward_reference(const Backward<S>& p) {
  const int64_t W = p.sizes.width, G = p.sizes.groups, m = p.sizes.group_width();
  const bool norm_first = p.sizes.norm_before_gate;
  for (int64_t i = 0; i < parts(p.sizes.rows) * W; ++i) p.grad_weight_parts[i] = S(0.0);
  for (int64_t item = 0; item < p.sizes.rows * G; ++item) {
    const int64_t row = item / G, first = item % G * m;
    const S *x = p.x.data + row * p.x.stride + first, *z = p.z.data + row * p.z.stride + first;
    const S *dy = p.grad_y.data + row * p.grad_y.stride + first, *w = p.weight + first;
    S *dx = p.grad_x + row * W + first, *dz = p.grad_z + row * W + first, *dw = p.grad_weight_parts + first;
    const S s = p.scale[item];
    S along = S(0.0);
    for (int64_t i = 0; i < m; ++i) {
      const S gate = z[i] * sigmoid_reference(z[i]);
      const S u = norm_first ? x[i] : x[i] * gate, e = norm_first ? dy[i] * gate : dy[i];
      along = along + w[i] * e * u;
      dw[i] = dw[i] + e * u * s;
    }
    along = along * s * s / S(static_cast<double>(m));
    for (int64_t i = 0; i < m; ++i) {
      const S q = sigmoid_reference(z[i]), gate = z[i] * q, slope = q * (S(1.0) + z[i] * (S(1.0) - q));
      const S u = norm_first ? x[i] : x[i] * gate, e = norm_first ? dy[i] * gate : dy[i];
      const S du = s * (w[i] * e - u * along);
      dx[i] = norm_first ? du : du * gate;
      dz[i] = (norm_first ? dy[i] * x[i] * s * w[i] : du * x[i]) * slope;
    }
  }
}

extern template void forward_reference(const Forward<float>&);
extern template void forward_reference(const Forward<double>&);
extern template void backward_reference(const Backward<float>&);
extern template void backward_reference(const Backward<double>&);

}  // namespace hippodrome::gated_rms_norm_op
