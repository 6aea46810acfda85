// The recurrence of op.h in plain loops, forward and backward, over any scalar with + - * / and exp, tanh.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "architectures/recurrent/lstm_scan/op.h"

namespace hippodrome {

template <class T>
T reference_sigmoid(T x) {
  using std::exp;
  return T(1) / (T(1) + exp(-x));
}

template <class T>
void lstm_scan_forward_reference(const LstmScanForward<T>& p) {
  using std::tanh;
  const int64_t H = p.hidden;
  std::vector<T> h(H), c(H), pre(4 * H);
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t j = 0; j < H; ++j) {
      h[j] = p.h0 ? p.h0[b * H + j] : T(0);
      c[j] = p.c0 ? p.c0[b * H + j] : T(0);
    }
    for (int64_t t = 0; t < p.length; ++t) {
      const int64_t token = b * p.length + t;
      const int64_t position = p.positions ? p.positions[token] : 1;
      if (position == 0) {
        h.assign(H, T(0));
        c.assign(H, T(0));
      }
      if (position >= 0) {
        for (int64_t r = 0; r < 4 * H; ++r) {
          pre[r] = p.gates[token * 4 * H + r];
          for (int64_t k = 0; k < H; ++k) pre[r] = pre[r] + p.weight_hh[r * H + k] * h[k];
        }
      }
      for (int64_t j = 0; j < H; ++j) {
        T i(0), f(0), g(0), o(0);
        if (position >= 0) {
          i = reference_sigmoid(pre[j]);
          f = reference_sigmoid(pre[H + j]);
          g = tanh(pre[2 * H + j]);
          o = reference_sigmoid(pre[3 * H + j]);
          c[j] = f * c[j] + i * g;
          h[j] = o * tanh(c[j]);
        }
        p.y[token * H + j] = position >= 0 ? h[j] : T(0);
        if (p.cells) {
          T* a = p.activated + token * 4 * H + j;
          a[0] = i;
          a[H] = f;
          a[2 * H] = g;
          a[3 * H] = o;
          p.cells[token * H + j] = c[j];
        }
      }
    }
    for (int64_t j = 0; j < H; ++j) {
      p.h[b * H + j] = h[j];
      p.c[b * H + j] = c[j];
    }
  }
}

template <class T>
void lstm_scan_backward_reference(const LstmScanBackward<T>& p) {
  using std::tanh;
  const int64_t H = p.hidden, L = p.length;
  std::vector<T> dh(H), dc(H), h((L + 1) * H);
  for (int64_t n = 0; n < 4 * H * H; ++n) p.grad_weight_hh[n] = T(0);
  for (int64_t b = 0; b < p.batch; ++b) {
    // h[t] is the state before token t; it is what the activations say it is.
    for (int64_t j = 0; j < H; ++j) h[j] = p.h0 ? p.h0[b * H + j] : T(0);
    for (int64_t t = 0; t < L; ++t) {
      const int64_t token = b * L + t;
      for (int64_t j = 0; j < H; ++j) {
        if (p.positions && p.positions[token] == 0) h[t * H + j] = T(0);
        const T o = p.activated[token * 4 * H + 3 * H + j];
        const bool padding = p.positions && p.positions[token] < 0;
        h[(t + 1) * H + j] = padding ? h[t * H + j] : o * tanh(p.cells[token * H + j]);
      }
    }
    for (int64_t j = 0; j < H; ++j) {
      dh[j] = p.grad_h[b * H + j];
      dc[j] = p.grad_c[b * H + j];
    }
    for (int64_t t = L - 1; t >= 0; --t) {
      const int64_t token = b * L + t;
      const int64_t position = p.positions ? p.positions[token] : 1;
      T* dgates = p.grad_gates + token * 4 * H;
      if (position < 0) {
        for (int64_t r = 0; r < 4 * H; ++r) dgates[r] = T(0);
        continue;
      }
      for (int64_t j = 0; j < H; ++j) {
        const T* a = p.activated + token * 4 * H + j;
        const T i = a[0], f = a[H], g = a[2 * H], o = a[3 * H];
        const T tc = tanh(p.cells[token * H + j]);
        T c_before(0);
        if (position != 0 && t > 0) c_before = p.cells[(token - 1) * H + j];
        if (position != 0 && t == 0 && p.c0) c_before = p.c0[b * H + j];
        const T dy = dh[j] + p.grad_y[token * H + j];
        const T dct = dc[j] + dy * o * (T(1) - tc * tc);
        dgates[j] = dct * g * i * (T(1) - i);
        dgates[H + j] = dct * c_before * f * (T(1) - f);
        dgates[2 * H + j] = dct * i * (T(1) - g * g);
        dgates[3 * H + j] = dy * tc * o * (T(1) - o);
        dc[j] = position == 0 ? T(0) : dct * f;
        dh[j] = T(0);
      }
      for (int64_t r = 0; r < 4 * H; ++r) {
        for (int64_t k = 0; k < H; ++k) {
          p.grad_weight_hh[r * H + k] = p.grad_weight_hh[r * H + k] + dgates[r] * h[t * H + k];
          if (position != 0) dh[k] = dh[k] + dgates[r] * p.weight_hh[r * H + k];
        }
      }
    }
    for (int64_t j = 0; j < H; ++j) {
      p.grad_h0[b * H + j] = dh[j];
      p.grad_c0[b * H + j] = dc[j];
    }
  }
}

}  // namespace hippodrome
