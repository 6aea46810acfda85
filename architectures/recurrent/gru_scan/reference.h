// The recurrence of op.h in plain loops, forward and backward, over any scalar with + - * / and exp, tanh.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "architectures/recurrent/gru_scan/op.h"

namespace hippodrome {

template <class T>
void gru_scan_forward_reference(const GruScanForward<T>& p) {
  using std::exp;
  using std::tanh;
  const int64_t H = p.hidden;
  std::vector<T> h(H), product(3 * H);
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t j = 0; j < H; ++j) h[j] = p.h0 ? p.h0[b * H + j] : T(0);
    for (int64_t t = 0; t < p.length; ++t) {
      const int64_t token = b * p.length + t;
      const int64_t position = p.positions ? p.positions[token] : 1;
      if (position == 0) h.assign(H, T(0));
      if (position >= 0) {
        for (int64_t row = 0; row < 3 * H; ++row) {
          product[row] = T(0);
          for (int64_t k = 0; k < H; ++k) product[row] = product[row] + p.weight_hh[row * H + k] * h[k];
        }
      }
      const T* gates = p.gates + token * 3 * H;
      for (int64_t j = 0; j < H; ++j) {
        T r(0), z(0), n(0), q(0);
        if (position >= 0) {
          r = T(1) / (T(1) + exp(-(gates[j] + product[j])));
          z = T(1) / (T(1) + exp(-(gates[H + j] + product[H + j])));
          q = product[2 * H + j] + p.bias_hn[j];
          n = tanh(gates[2 * H + j] + r * q);
          h[j] = (T(1) - z) * n + z * h[j];
        }
        p.y[token * H + j] = position >= 0 ? h[j] : T(0);
        if (p.activated) {
          T* a = p.activated + token * 4 * H + j;
          a[0] = r;
          a[H] = z;
          a[2 * H] = n;
          a[3 * H] = q;
          p.hidden_states[token * H + j] = h[j];
        }
      }
    }
    for (int64_t j = 0; j < H; ++j) p.h[b * H + j] = h[j];
  }
}

template <class T>
void gru_scan_backward_reference(const GruScanBackward<T>& p) {
  const int64_t H = p.hidden, L = p.length;
  std::vector<T> dh(H), dproduct(3 * H), before(H);
  for (int64_t n = 0; n < 3 * H * H; ++n) p.grad_weight_hh[n] = T(0);
  for (int64_t j = 0; j < H; ++j) p.grad_bias_hn[j] = T(0);
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t j = 0; j < H; ++j) dh[j] = p.grad_h[b * H + j];
    for (int64_t t = L - 1; t >= 0; --t) {
      const int64_t token = b * L + t;
      const int64_t position = p.positions ? p.positions[token] : 1;
      T* dgates = p.grad_gates + token * 3 * H;
      if (position < 0) {
        for (int64_t row = 0; row < 3 * H; ++row) dgates[row] = T(0);
        continue;
      }
      for (int64_t j = 0; j < H; ++j) {
        before[j] = T(0);
        if (position != 0 && t > 0) before[j] = p.hidden_states[(token - 1) * H + j];
        if (position != 0 && t == 0 && p.h0) before[j] = p.h0[b * H + j];
        const T* a = p.activated + token * 4 * H + j;
        const T r = a[0], z = a[H], n = a[2 * H], q = a[3 * H];
        const T dy = dh[j] + p.grad_y[token * H + j];
        const T dn = dy * (T(1) - z) * (T(1) - n * n);
        dproduct[j] = dgates[j] = dn * q * r * (T(1) - r);
        dproduct[H + j] = dgates[H + j] = dy * (before[j] - n) * z * (T(1) - z);
        dgates[2 * H + j] = dn;
        dproduct[2 * H + j] = dn * r;
        p.grad_bias_hn[j] = p.grad_bias_hn[j] + dn * r;
        dh[j] = position == 0 ? T(0) : dy * z;
      }
      for (int64_t row = 0; row < 3 * H; ++row) {
        for (int64_t k = 0; k < H; ++k) {
          p.grad_weight_hh[row * H + k] = p.grad_weight_hh[row * H + k] + dproduct[row] * before[k];
          if (position != 0) dh[k] = dh[k] + dproduct[row] * p.weight_hh[row * H + k];
        }
      }
    }
    for (int64_t j = 0; j < H; ++j) p.grad_h0[b * H + j] = dh[j];
  }
}

}  // namespace hippodrome
