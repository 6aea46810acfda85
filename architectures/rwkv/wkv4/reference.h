// Plain loops of wkv4: the oracle. Per (t, channel) the forward pass is 17 additions, products and quotients and 4
// exponentials, padding aside. `Scalar` needs + - * / <, a conversion from double and an `exp` found by
// argument-dependent lookup.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "architectures/rwkv/wkv4/op.h"

namespace hippodrome {

template <class Scalar>
void wkv4_forward_reference(const Wkv4Forward<Scalar>& p) {
  using std::exp;
  const int64_t T = p.time, C = p.channels;
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t c = 0; c < C; ++c) {
      const Scalar w = p.w[c], u = p.u[c];
      const Scalar* state = p.state == nullptr ? nullptr : p.state + b * 3 * C + c;
      Scalar n = state ? state[0] : Scalar(0.0);
      Scalar d = state ? state[C] : Scalar(0.0);
      Scalar m = state ? state[2 * C] : Scalar(kWkv4FreshMaximum);
      for (int64_t t = 0; t < T; ++t) {
        const int64_t at = (b * T + t) * C + c;
        if (p.positions != nullptr && p.positions[b * T + t] < 0) {
          p.y[at] = Scalar(0.0);
          continue;
        }
        if (p.positions != nullptr && p.positions[b * T + t] == 0) {
          n = d = Scalar(0.0);
          m = Scalar(kWkv4FreshMaximum);
        }
        const Scalar k = p.k[at], v = p.v[at];
        const Scalar bonus = u + k;
        const Scalar q = m < bonus ? bonus : m;
        const Scalar e1 = exp(m - q), e2 = exp(bonus - q);
        p.y[at] = (e1 * n + e2 * v) / (e1 * d + e2);
        const Scalar decayed = m + w;
        m = decayed < k ? k : decayed;
        const Scalar f1 = exp(decayed - m), f2 = exp(k - m);
        n = f1 * n + f2 * v;
        d = f1 * d + f2;
      }
      Scalar* last = p.last_state + b * 3 * C + c;
      last[0] = n;
      last[C] = d;
      last[2 * C] = m;
    }
  }
}

// Keeps the state before every step, where the fused kernel recomputes it from checkpoints.
template <class Scalar>
void wkv4_backward_reference(const Wkv4Backward<Scalar>& p) {
  using std::exp;
  struct State {
    Scalar n, d, m;
  };
  const int64_t T = p.time, C = p.channels;
  const State fresh{Scalar(0.0), Scalar(0.0), Scalar(kWkv4FreshMaximum)};
  std::vector<State> before(static_cast<size_t>(T), fresh);
  for (int64_t b = 0; b < p.batch; ++b) {
    const int64_t* positions = p.positions == nullptr ? nullptr : p.positions + b * T;
    for (int64_t c = 0; c < C; ++c) {
      const Scalar w = p.w[c], u = p.u[c];
      const Scalar* state = p.state == nullptr ? nullptr : p.state + b * 3 * C + c;
      const State first = state ? State{state[0], state[C], state[2 * C]} : fresh;
      State now = first;
      for (int64_t t = 0; t < T; ++t) {
        if (positions != nullptr && positions[t] < 0) continue;
        if (positions != nullptr && positions[t] == 0) now = fresh;
        before[t] = now;
        const Scalar k = p.k[(b * T + t) * C + c], v = p.v[(b * T + t) * C + c];
        const Scalar decayed = now.m + w;
        const Scalar m = decayed < k ? k : decayed;
        const Scalar f1 = exp(decayed - m), f2 = exp(k - m);
        now = State{f1 * now.n + f2 * v, f1 * now.d + f2, m};
      }

      const Scalar* last = p.grad_last_state == nullptr ? nullptr : p.grad_last_state + b * 3 * C + c;
      Scalar gn = last ? last[0] : Scalar(0.0);
      Scalar gd = last ? last[C] : Scalar(0.0);
      Scalar gm = last ? last[2 * C] - gn * now.n - gd * now.d : Scalar(0.0);
      Scalar gw(0.0), gu(0.0);
      for (int64_t t = T; t-- > 0;) {
        const int64_t at = (b * T + t) * C + c;
        if (positions != nullptr && positions[t] < 0) {
          p.grad_k[at] = p.grad_v[at] = Scalar(0.0);
          continue;
        }
        const State s = before[t];
        const Scalar k = p.k[at], v = p.v[at];
        const Scalar bonus = u + k;
        const Scalar q = s.m < bonus ? bonus : s.m;
        const Scalar e1 = exp(s.m - q), e2 = exp(bonus - q);
        const Scalar denominator = e1 * s.d + e2;
        const Scalar y = (e1 * s.n + e2 * v) / denominator;
        const Scalar g = p.grad_y[at] / denominator;
        const Scalar decayed = s.m + w;
        const bool key_wins = decayed < k;
        const Scalar m = key_wins ? k : decayed;
        const Scalar f1 = exp(decayed - m), f2 = exp(k - m);

        const Scalar through_bonus = g * e2 * (v - y);
        gu = gu + through_bonus;
        gw = gw + f1 * (gn * s.n + gd * s.d) + (key_wins ? Scalar(0.0) : gm);
        p.grad_k[at] = through_bonus + f2 * (gn * v + gd) + (key_wins ? gm : Scalar(0.0));
        p.grad_v[at] = g * e2 + f2 * gn;
        gn = g * e1 + f1 * gn;
        gd = f1 * gd - g * e1 * y;
        if (key_wins) gm = Scalar(0.0);
        if (positions != nullptr && positions[t] == 0) gn = gd = gm = Scalar(0.0);
      }
      p.grad_w_rows[b * C + c] = gw;
      p.grad_u_rows[b * C + c] = gu;
      Scalar* grad_state = p.grad_state + b * 3 * C + c;
      grad_state[0] = gn;
      grad_state[C] = gd;
      grad_state[2 * C] = gm + gn * first.n + gd * first.d;
    }
  }
}

extern template void wkv4_forward_reference<float>(const Wkv4Forward<float>&);
extern template void wkv4_forward_reference<double>(const Wkv4Forward<double>&);
extern template void wkv4_backward_reference<float>(const Wkv4Backward<float>&);
extern template void wkv4_backward_reference<double>(const Wkv4Backward<double>&);

}  // namespace hippodrome
