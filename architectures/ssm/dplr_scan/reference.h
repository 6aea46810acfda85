// The recurrence of op.h in plain loops, forward and backward, over any scalar with + - *.
#pragma once

#include <cstdint>
#include <vector>

#include "architectures/ssm/dplr_scan/op.h"

namespace hippodrome {
namespace dplr_scan_reference {

// s_r = 2 Re Σ_n q_{r,n} x_n, from the channel's q [R, N, 2] and x [N, 2].
template <class T>
void read_out(const T* q, const T* x, int64_t rank, int64_t states, T* s) {
  for (int64_t r = 0; r < rank; ++r) {
    T sum(0);
    for (int64_t n = 0; n < states; ++n) {
      const T* of_mode = q + (r * states + n) * 2;
      sum = sum + of_mode[0] * x[2 * n] - of_mode[1] * x[2 * n + 1];
    }
    s[r] = sum + sum;
  }
}

// x ← a∘x + Σ_r w_r s_r + b u.
template <class P, class T>
void advance(const P& p, int64_t channel, T u, const T* s, T* x) {
  for (int64_t n = 0; n < p.states; ++n) {
    const int64_t k = (channel * p.states + n) * 2;
    T re = p.a[k] * x[2 * n] - p.a[k + 1] * x[2 * n + 1] + p.b[k] * u;
    T im = p.a[k] * x[2 * n + 1] + p.a[k + 1] * x[2 * n] + p.b[k + 1] * u;
    for (int64_t r = 0; r < p.rank; ++r) {
      const int64_t l = ((channel * p.rank + r) * p.states + n) * 2;
      re = re + p.w[l] * s[r];
      im = im + p.w[l + 1] * s[r];
    }
    x[2 * n] = re;
    x[2 * n + 1] = im;
  }
}

}  // namespace dplr_scan_reference

template <class T>
void dplr_scan_forward_reference(const DplrScanForward<T>& p) {
  const int64_t N = p.states, R = p.rank;
  std::vector<T> x(2 * N), s(R);
  for (int64_t row = 0; row < p.batch * p.channels; ++row) {
    const int64_t b = row / p.channels, d = row % p.channels;
    for (int64_t i = 0; i < 2 * N; ++i) x[i] = p.state ? p.state[row * 2 * N + i] : T(0);
    for (int64_t t = 0; t < p.length; ++t) {
      const int64_t at = (b * p.length + t) * p.channels + d;
      const int64_t position = p.positions ? p.positions[b * p.length + t] : 1;
      p.y[at] = T(0);
      if (position < 0) continue;
      if (position == 0) x.assign(2 * N, T(0));
      dplr_scan_reference::read_out(p.q + d * R * N * 2, x.data(), R, N, s.data());
      dplr_scan_reference::advance(p, d, p.u[at], s.data(), x.data());
      dplr_scan_reference::read_out(p.c + d * N * 2, x.data(), 1, N, p.y + at);
    }
    for (int64_t i = 0; i < 2 * N; ++i) p.last_state[row * 2 * N + i] = x[i];
  }
}

template <class T>
void dplr_scan_backward_reference(const DplrScanBackward<T>& p) {
  const int64_t N = p.states, R = p.rank, L = p.length;
  for (int64_t k = 0; k < p.batch * L * p.channels; ++k) p.grad_u[k] = T(0);
  for (T* gradient : {p.grad_a, p.grad_b, p.grad_c}) {
    for (int64_t k = 0; k < p.channels * N * 2; ++k) gradient[k] = T(0);
  }
  for (T* gradient : {p.grad_q, p.grad_w}) {
    for (int64_t k = 0; k < p.channels * R * N * 2; ++k) gradient[k] = T(0);
  }
  // The states before (and, one place further, after) each token, and what each token's update read out of them.
  std::vector<T> before(L * 2 * N), after(L * 2 * N), s(L * R), x(2 * N), g(2 * N), sigma(R);
  for (int64_t row = 0; row < p.batch * p.channels; ++row) {
    const int64_t b = row / p.channels, d = row % p.channels;
    const auto position = [&](int64_t t) { return p.positions ? p.positions[b * L + t] : 1; };
    for (int64_t i = 0; i < 2 * N; ++i) x[i] = p.state ? p.state[row * 2 * N + i] : T(0);
    for (int64_t t = 0; t < L; ++t) {
      if (position(t) < 0) continue;
      if (position(t) == 0) x.assign(2 * N, T(0));
      for (int64_t i = 0; i < 2 * N; ++i) before[t * 2 * N + i] = x[i];
      dplr_scan_reference::read_out(p.q + d * R * N * 2, x.data(), R, N, s.data() + t * R);
      dplr_scan_reference::advance(p, d, p.u[(b * L + t) * p.channels + d], s.data() + t * R, x.data());
      for (int64_t i = 0; i < 2 * N; ++i) after[t * 2 * N + i] = x[i];
    }
    for (int64_t i = 0; i < 2 * N; ++i) g[i] = p.grad_last_state[row * 2 * N + i];
    for (int64_t t = L - 1; t >= 0; --t) {
      if (position(t) < 0) continue;
      const int64_t at = (b * L + t) * p.channels + d;
      const T dy = p.grad_y[at] + p.grad_y[at], u = p.u[at];
      sigma.assign(R, T(0));
      for (int64_t n = 0; n < N; ++n) {
        const int64_t k = (d * N + n) * 2;
        const T *x0 = &before[(t * N + n) * 2], *x1 = &after[(t * N + n) * 2];
        const T lr = g[2 * n] + p.c[k] * dy, li = g[2 * n + 1] - p.c[k + 1] * dy;
        p.grad_a[k] = p.grad_a[k] + lr * x0[0] + li * x0[1];
        p.grad_a[k + 1] = p.grad_a[k + 1] + li * x0[0] - lr * x0[1];
        p.grad_b[k] = p.grad_b[k] + lr * u;
        p.grad_b[k + 1] = p.grad_b[k + 1] + li * u;
        p.grad_c[k] = p.grad_c[k] + dy * x1[0];
        p.grad_c[k + 1] = p.grad_c[k + 1] - dy * x1[1];
        p.grad_u[at] = p.grad_u[at] + p.b[k] * lr + p.b[k + 1] * li;
        for (int64_t r = 0; r < R; ++r) {
          const int64_t l = ((d * R + r) * N + n) * 2;
          sigma[r] = sigma[r] + p.w[l] * lr + p.w[l + 1] * li;
          p.grad_w[l] = p.grad_w[l] + lr * s[t * R + r];
          p.grad_w[l + 1] = p.grad_w[l + 1] + li * s[t * R + r];
        }
        g[2 * n] = p.a[k] * lr + p.a[k + 1] * li;
        g[2 * n + 1] = p.a[k] * li - p.a[k + 1] * lr;
      }
      for (int64_t n = 0; n < N; ++n) {
        const T* x0 = &before[(t * N + n) * 2];
        for (int64_t r = 0; r < R; ++r) {
          const int64_t l = ((d * R + r) * N + n) * 2;
          const T twice = sigma[r] + sigma[r];
          g[2 * n] = g[2 * n] + p.q[l] * twice;
          g[2 * n + 1] = g[2 * n + 1] - p.q[l + 1] * twice;
          p.grad_q[l] = p.grad_q[l] + twice * x0[0];
          p.grad_q[l + 1] = p.grad_q[l + 1] - twice * x0[1];
        }
      }
      if (position(t) == 0) g.assign(2 * N, T(0));
    }
    for (int64_t i = 0; i < 2 * N; ++i) p.grad_state[row * 2 * N + i] = g[i];
  }
}

}  // namespace hippodrome
