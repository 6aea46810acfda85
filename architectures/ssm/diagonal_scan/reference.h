// The recurrence of op.h in plain loops, forward and backward, over any scalar with + - *.
#pragma once

#include <cstdint>
#include <vector>

#include "architectures/ssm/diagonal_scan/op.h"

namespace hippodrome {

template <class T>
void diagonal_scan_forward_reference(const DiagonalScanForward<T>& p) {
  const int64_t N = p.states;
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t d = 0; d < p.channels; ++d) {
      std::vector<T> re(N, T(0)), im(N, T(0));
      const int64_t row = b * p.channels + d;
      for (int64_t n = 0; n < N && p.state; ++n) {
        re[n] = p.state[(row * N + n) * 2];
        im[n] = p.state[(row * N + n) * 2 + 1];
      }
      for (int64_t t = 0; t < p.length; ++t) {
        const int64_t at = (b * p.length + t) * p.channels + d;
        const int64_t position = p.positions ? p.positions[b * p.length + t] : 1;
        T sum(0);
        for (int64_t n = 0; n < N && position >= 0; ++n) {
          if (position == 0) re[n] = im[n] = T(0);
          const int64_t k = d * N + n;
          const T next_re = p.parameters[0][k] * re[n] - p.parameters[1][k] * im[n] + p.parameters[2][k] * p.u[at];
          const T next_im = p.parameters[0][k] * im[n] + p.parameters[1][k] * re[n] + p.parameters[3][k] * p.u[at];
          re[n] = next_re;
          im[n] = next_im;
          sum = sum + p.parameters[4][k] * re[n] - p.parameters[5][k] * im[n];
        }
        p.y[at] = sum + sum;
      }
      for (int64_t n = 0; n < N; ++n) {
        p.last_state[(row * N + n) * 2] = re[n];
        p.last_state[(row * N + n) * 2 + 1] = im[n];
      }
    }
  }
}

template <class T>
void diagonal_scan_backward_reference(const DiagonalScanBackward<T>& p) {
  const int64_t N = p.states, L = p.length;
  for (T* gradient : p.grad_parameters) {
    for (int64_t k = 0; k < p.channels * N; ++k) gradient[k] = T(0);
  }
  for (int64_t k = 0; k < p.batch * L * p.channels; ++k) p.grad_u[k] = T(0);
  // States before and after each token, one mode at a time.
  std::vector<T> before_re(L), before_im(L), re(L), im(L);
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t d = 0; d < p.channels; ++d) {
      for (int64_t n = 0; n < N; ++n) {
        const int64_t k = d * N + n, s = ((b * p.channels + d) * N + n) * 2;
        const T ar = p.parameters[0][k], ai = p.parameters[1][k], br = p.parameters[2][k], bi = p.parameters[3][k];
        const T cr = p.parameters[4][k], ci = p.parameters[5][k];
        T xr = p.state ? p.state[s] : T(0), xi = p.state ? p.state[s + 1] : T(0);
        for (int64_t t = 0; t < L; ++t) {
          const int64_t position = p.positions ? p.positions[b * L + t] : 1;
          if (position == 0) xr = xi = T(0);
          before_re[t] = xr;
          before_im[t] = xi;
          if (position >= 0) {
            const T u = p.u[(b * L + t) * p.channels + d];
            xr = ar * before_re[t] - ai * before_im[t] + br * u;
            xi = ar * before_im[t] + ai * before_re[t] + bi * u;
          }
          re[t] = xr;
          im[t] = xi;
        }
        T lr = p.grad_last_state[s], li = p.grad_last_state[s + 1];
        T sums[6] = {T(0), T(0), T(0), T(0), T(0), T(0)};
        for (int64_t t = L - 1; t >= 0; --t) {
          const int64_t position = p.positions ? p.positions[b * L + t] : 1;
          if (position < 0) continue;
          const int64_t at = (b * L + t) * p.channels + d;
          const T dy = p.grad_y[at] + p.grad_y[at];
          lr = lr + cr * dy;
          li = li - ci * dy;
          sums[0] = sums[0] + lr * before_re[t] + li * before_im[t];
          sums[1] = sums[1] + li * before_re[t] - lr * before_im[t];
          sums[2] = sums[2] + lr * p.u[at];
          sums[3] = sums[3] + li * p.u[at];
          sums[4] = sums[4] + dy * re[t];
          sums[5] = sums[5] - dy * im[t];
          p.grad_u[at] = p.grad_u[at] + br * lr + bi * li;
          const T earlier_re = ar * lr + ai * li;
          li = position == 0 ? T(0) : ar * li - ai * lr;
          lr = position == 0 ? T(0) : earlier_re;
        }
        for (int i = 0; i < 6; ++i) p.grad_parameters[i][k] = p.grad_parameters[i][k] + sums[i];
        p.grad_state[s] = lr;
        p.grad_state[s + 1] = li;
      }
    }
  }
}

}  // namespace hippodrome
