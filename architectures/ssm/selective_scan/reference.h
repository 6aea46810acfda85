// Plain loops for the selective scan: the oracle of the tests and the kernel = "reference" path. Works on any scalar
// that has + - * / and comparisons, conversion from double, and exp, expm1, log1p, sin and cos found by
// argument-dependent lookup, so that a counting scalar counts the operations. Equations: op.h.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "architectures/ssm/selective_scan/general_reference.h"
#include "architectures/ssm/selective_scan/op.h"

namespace hippodrome::s6 {

template <class S>
S sigmoid_reference(const S& x) {
  using std::exp;
  return S(1.0) / (S(1.0) + exp(S(0.0) - x));
}

template <class S>
S step_size_reference(const Params<S>& p, int64_t b, int64_t t, int64_t d) {
  using std::exp;
  using std::log1p;
  S delta = p.delta.data[b * p.delta.batch + t * p.delta.time + d];
  if (p.delta_bias != nullptr) delta = delta + p.delta_bias[d];
  if (p.delta_softplus && !(delta > S(kSoftplusThreshold))) delta = log1p(exp(delta));
  return delta;
}

// Forward: fills y and last_state (checkpoints are not used: the backward below keeps what it needs).
template <class S>
void selective_scan_reference(const Params<S>& p) {
  using std::exp;
  const int64_t N = p.states;
  const int64_t channels_per_group = p.channels / p.groups;
  for (int64_t b = 0; b < p.batch; ++b) {
    S* state = p.last_state + b * p.channels * N;
    for (int64_t i = 0; i < p.channels * N; ++i) {
      state[i] = p.initial_state != nullptr ? p.initial_state[b * p.channels * N + i] : S(0.0);
    }
    for (int64_t t = 0; t < p.length; ++t) {
      const int64_t position = p.positions != nullptr ? p.positions[b * p.length + t] : 1;
      S* y = p.y + (b * p.length + t) * p.channels;
      for (int64_t d = 0; d < p.channels; ++d) {
        if (position < 0) {
          y[d] = S(0.0);
          continue;
        }
        const int64_t g = d / channels_per_group;
        const S* B = p.B.data + b * p.B.batch + g * p.B.group + t * p.B.time;
        const S* C = p.C.data + b * p.C.batch + g * p.C.group + t * p.C.time;
        const S u = p.u.data[b * p.u.batch + t * p.u.time + d];
        const S delta = step_size_reference(p, b, t, d);
        const S delta_u = is_general(p) ? S(0.0) : delta * u;
        S* h = state + d * N;
        S sum = S(0.0);
        for (int64_t n = 0; n < N && position == 0; ++n) h[n] = S(0.0);
        if (is_general(p)) {
          sum = general_step_reference(p, delta, u, p.A + d * N, B, C, h);
        }
        for (int64_t n = 0; n < N && !is_general(p); ++n) {
          h[n] = exp(delta * p.A[d * N + n]) * h[n] + delta_u * B[n];
          sum = sum + C[n] * h[n];
        }
        if (p.D != nullptr) sum = sum + p.D[d] * u;
        if (p.z.data != nullptr) {
          const S z = p.z.data[b * p.z.batch + t * p.z.time + d];
          sum = sum * (z * sigmoid_reference(z));
        }
        y[d] = sum;
      }
    }
  }
}

// Backward of one channel of one batch row. `states` holds h_0 ... h_L of that channel, `decays` holds abar_1 ...
// abar_L.
template <class S>
void selective_scan_reference_backward_channel(const Params<S>& p, const Gradients<S>& grad, int64_t b, int64_t d,
                                               std::vector<S>& states, std::vector<S>& decays) {
  using std::exp;
  const int64_t N = p.states, L = p.length;
  const int64_t g = d / (p.channels / p.groups);
  const auto position = [&](int64_t t) { return p.positions != nullptr ? p.positions[b * L + t] : int64_t{1}; };

  for (int64_t n = 0; n < N; ++n) {
    states[n] = p.initial_state != nullptr ? p.initial_state[(b * p.channels + d) * N + n] : S(0.0);
  }
  for (int64_t t = 0; t < L; ++t) {
    S* before = states.data() + t * N;
    S* after = before + N;
    if (position(t) < 0) {
      for (int64_t n = 0; n < N; ++n) after[n] = before[n];
      continue;
    }
    const S* B = p.B.data + b * p.B.batch + g * p.B.group + t * p.B.time;
    const S delta = step_size_reference(p, b, t, d);
    const S u = p.u.data[b * p.u.batch + t * p.u.time + d], delta_u = delta * u;
    if (is_general(p)) {
      for (int64_t n = 0; n < N; ++n) after[n] = position(t) == 0 ? S(0.0) : before[n];
      general_step_reference(p, delta, u, p.A + d * N, B, p.C.data + b * p.C.batch + g * p.C.group + t * p.C.time,
                             after);
      continue;
    }
    for (int64_t n = 0; n < N; ++n) {
      const S abar = exp(delta * p.A[d * N + n]);
      decays[t * N + n] = abar;
      after[n] = (position(t) == 0 ? S(0.0) : abar * before[n]) + delta_u * B[n];
    }
  }

  std::vector<S> carry(N, S(0.0));  // abar_{t+1} g_{t+1}
  for (int64_t n = 0; n < N && grad.last_state != nullptr; ++n)
    carry[n] = grad.last_state[(b * p.channels + d) * N + n];
  for (int64_t t = L - 1; t >= 0; --t) {
    const int64_t i = (b * L + t) * p.channels + d;
    if (position(t) < 0) {
      grad.u[i] = grad.delta[i] = S(0.0);
      if (grad.z != nullptr) grad.z[i] = S(0.0);
      continue;
    }
    const S* B = p.B.data + b * p.B.batch + g * p.B.group + t * p.B.time;
    const S* C = p.C.data + b * p.C.batch + g * p.C.group + t * p.C.time;
    S* dB = grad.B + ((b * L + t) * p.groups + g) * N;
    S* dC = grad.C + ((b * L + t) * p.groups + g) * N;
    const S* before = states.data() + t * N;
    const S* after = before + N;
    const S u = p.u.data[b * p.u.batch + t * p.u.time + d];
    const S delta = step_size_reference(p, b, t, d);
    S dy = grad.y.data != nullptr ? grad.y.data[b * grad.y.batch + t * grad.y.time + d] : S(0.0);
    if (p.z.data != nullptr) {
      const S z = p.z.data[b * p.z.batch + t * p.z.time + d];
      const S gate = sigmoid_reference(z);
      S ungated = p.D != nullptr ? p.D[d] * u : S(0.0);
      for (int64_t n = 0; n < N; ++n) {
        ungated = ungated + (p.complex ? S(n < N / 2 ? 2.0 : -2.0) : S(1.0)) * C[n] * after[n];
      }
      if (grad.z != nullptr) grad.z[i] = dy * ungated * gate * (S(1.0) + z * (S(1.0) - gate));
      dy = dy * z * gate;
    }
    S du = p.D != nullptr ? p.D[d] * dy : S(0.0);
    S ddelta = S(0.0);
    if (is_general(p)) {
      general_step_backward_reference(p, {delta, u, dy, p.A + d * N, B, C, before, after, position(t) == 0},
                                      grad.A + d * N, dB, dC, carry.data(), du, ddelta);
    }
    for (int64_t n = 0; n < N && !is_general(p); ++n) {
      const S gradient = dy * C[n] + carry[n];
      const S decayed = position(t) == 0 ? S(0.0) : decays[t * N + n] * before[n];
      dC[n] = dC[n] + dy * after[n];
      dB[n] = dB[n] + gradient * delta * u;
      du = du + gradient * delta * B[n];
      ddelta = ddelta + gradient * (B[n] * u + p.A[d * N + n] * decayed);
      grad.A[d * N + n] = grad.A[d * N + n] + gradient * delta * decayed;
      carry[n] = position(t) == 0 ? S(0.0) : decays[t * N + n] * gradient;
    }
    if (grad.D != nullptr) grad.D[d] = grad.D[d] + dy * u;
    if (p.delta_softplus) {
      S raw = p.delta.data[b * p.delta.batch + t * p.delta.time + d];
      if (p.delta_bias != nullptr) raw = raw + p.delta_bias[d];
      if (!(raw > S(kSoftplusThreshold))) ddelta = ddelta * sigmoid_reference(raw);
    }
    if (grad.delta_bias != nullptr) grad.delta_bias[d] = grad.delta_bias[d] + ddelta;
    grad.u[i] = du;
    grad.delta[i] = ddelta;
  }
  for (int64_t n = 0; n < N && grad.initial_state != nullptr; ++n) {
    grad.initial_state[(b * p.channels + d) * N + n] = carry[n];
  }
}

// Backward: fills every non-null gradient (full sums, see Gradients). Keeps 2 L N values for one channel at a time.
template <class S>
void selective_scan_reference_backward(const Params<S>& p, const Gradients<S>& grad) {
  const int64_t N = p.states, L = p.length;
  for (int64_t i = 0; i < p.batch * L * p.groups * N; ++i) grad.B[i] = grad.C[i] = S(0.0);
  for (int64_t i = 0; i < p.channels * N; ++i) grad.A[i] = S(0.0);
  for (int64_t d = 0; d < p.channels; ++d) {
    if (grad.D != nullptr) grad.D[d] = S(0.0);
    if (grad.delta_bias != nullptr) grad.delta_bias[d] = S(0.0);
  }
  std::vector<S> states((L + 1) * N, S(0.0)), decays(L * N, S(0.0));
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t d = 0; d < p.channels; ++d) {
      selective_scan_reference_backward_channel(p, grad, b, d, states, decays);
    }
  }
}

extern template void selective_scan_reference(const Params<float>&);
extern template void selective_scan_reference(const Params<double>&);
extern template void selective_scan_reference_backward(const Params<float>&, const Gradients<float>&);
extern template void selective_scan_reference_backward(const Params<double>&, const Gradients<double>&);

}  // namespace hippodrome::s6
