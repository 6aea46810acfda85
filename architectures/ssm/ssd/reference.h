// Plain loops for SSD: the oracle of the tests and the kernel = "reference" path. Works on any scalar that has + - * /
// and comparisons, conversion from double, and exp and log1p found by argument-dependent lookup, so that a counting
// scalar counts the operations. Equations: op.h.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "architectures/ssm/ssd/op.h"

namespace hippodrome::ssd_kernel {

template <class S>
S sigmoid_reference(const S& x) {
  using std::exp;
  return S(1.0) / (S(1.0) + exp(S(0.0) - x));
}

// dt before softplus and clamp, and after.
template <class S>
S raw_step_reference(const Params<S>& p, int64_t b, int64_t t, int64_t h) {
  const S dt = p.dt.data[b * p.dt.batch + t * p.dt.time + h];
  return p.dt_bias != nullptr ? dt + p.dt_bias[h] : dt;
}
template <class S>
S unclamped_step_reference(const Params<S>& p, const S& raw) {
  using std::exp;
  using std::log1p;
  return p.dt_softplus && !(raw > S(kSoftplusThreshold)) ? log1p(exp(raw)) : raw;
}
template <class S>
S step_reference(const Params<S>& p, int64_t b, int64_t t, int64_t h) {
  const S dt = unclamped_step_reference(p, raw_step_reference(p, b, t, h));
  if (dt < S(p.dt_low)) return S(p.dt_low);
  return dt > S(p.dt_high) ? S(p.dt_high) : dt;
}

template <class S>
int64_t position_reference(const Params<S>& p, int64_t b, int64_t t) {
  return p.positions != nullptr ? p.positions[b * p.length + t] : 1;
}

// Forward: fills y and last_state (checkpoints are not used: the backward below keeps what it needs).
template <class S>
void ssd_reference(const Params<S>& p) {
  using std::exp;
  const int64_t P = p.head_size, N = p.states, heads_per_group = p.heads / p.groups;
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) {
      const int64_t g = h / heads_per_group;
      S* state = p.last_state + (b * p.heads + h) * P * N;
      for (int64_t i = 0; i < P * N; ++i) {
        state[i] = p.initial_state != nullptr ? p.initial_state[(b * p.heads + h) * P * N + i] : S(0.0);
      }
      for (int64_t t = 0; t < p.length; ++t) {
        const int64_t position = position_reference(p, b, t);
        S* y = p.y + (b * p.length + t) * p.heads * P + h * P;
        if (position < 0) {
          for (int64_t i = 0; i < P; ++i) y[i] = S(0.0);
          continue;
        }
        const S* x = p.x.data + b * p.x.batch + t * p.x.time + h * P;
        const S* B = p.B.data + b * p.B.batch + t * p.B.time + g * N;
        const S* C = p.C.data + b * p.C.batch + t * p.C.time + g * N;
        const S dt = step_reference(p, b, t, h);
        const S decay = exp(dt * p.A[h]);
        for (int64_t i = 0; i < P; ++i) {
          const S input = dt * x[i];
          S sum = S(0.0);
          for (int64_t n = 0; n < N; ++n) {
            S& entry = state[i * N + n];
            if (position == 0) entry = S(0.0);
            entry = decay * entry + input * B[n];
            sum = sum + C[n] * entry;
          }
          if (p.D != nullptr) sum = sum + p.D[h] * x[i];
          if (p.z.data != nullptr) {
            const S z = p.z.data[b * p.z.batch + t * p.z.time + h * P + i];
            sum = sum * (z * sigmoid_reference(z));
          }
          y[i] = sum;
        }
      }
    }
  }
}

// Backward of one head of one batch row. `states` holds h_0 ... h_L of that head.
template <class S>
void ssd_reference_backward_head(const Params<S>& p, const Gradients<S>& grad, int64_t b, int64_t h,
                                 std::vector<S>& states) {
  using std::exp;
  const int64_t P = p.head_size, N = p.states, L = p.length, g = h / (p.heads / p.groups);
  const int64_t size = P * N, row = (b * p.heads + h) * size;
  for (int64_t i = 0; i < size; ++i) states[i] = p.initial_state != nullptr ? p.initial_state[row + i] : S(0.0);
  for (int64_t t = 0; t < L; ++t) {
    const S *before = states.data() + t * size, *B = p.B.data + b * p.B.batch + t * p.B.time + g * N;
    S* after = states.data() + (t + 1) * size;
    const int64_t position = position_reference(p, b, t);
    const S dt = step_reference(p, b, t, h), decay = exp(dt * p.A[h]);
    for (int64_t i = 0; i < size; ++i) {
      const S x = p.x.data[b * p.x.batch + t * p.x.time + h * P + i / N];
      const S kept = position == 0 ? S(0.0) : decay * before[i];
      after[i] = position < 0 ? before[i] : kept + dt * x * B[i % N];
    }
  }

  std::vector<S> carry(size, S(0.0));  // gradient of h_t from later steps
  for (int64_t i = 0; i < size && grad.last_state != nullptr; ++i) carry[i] = grad.last_state[row + i];
  for (int64_t t = L - 1; t >= 0; --t) {
    const int64_t at = (b * L + t) * p.heads * P + h * P, position = position_reference(p, b, t);
    S* ddt_out = grad.dt + (b * L + t) * p.heads + h;
    if (position < 0) {
      *ddt_out = S(0.0);
      for (int64_t i = 0; i < P; ++i) grad.x[at + i] = S(0.0);
      for (int64_t i = 0; i < P && grad.z != nullptr; ++i) grad.z[at + i] = S(0.0);
      continue;
    }
    const S* B = p.B.data + b * p.B.batch + t * p.B.time + g * N;
    const S* C = p.C.data + b * p.C.batch + t * p.C.time + g * N;
    S* dB = grad.B + ((b * L + t) * p.groups + g) * N;
    S* dC = grad.C + ((b * L + t) * p.groups + g) * N;
    const S *before = states.data() + t * size, *after = before + size;
    const S dt = step_reference(p, b, t, h), decay = exp(dt * p.A[h]);
    S ddt = S(0.0), da = S(0.0);
    for (int64_t i = 0; i < P; ++i) {
      const S x = p.x.data[b * p.x.batch + t * p.x.time + h * P + i];
      S dy = grad.y.data != nullptr ? grad.y.data[b * grad.y.batch + t * grad.y.time + h * P + i] : S(0.0);
      if (p.z.data != nullptr) {
        const S z = p.z.data[b * p.z.batch + t * p.z.time + h * P + i], gate = sigmoid_reference(z);
        S ungated = p.D != nullptr ? p.D[h] * x : S(0.0);
        for (int64_t n = 0; n < N; ++n) ungated = ungated + C[n] * after[i * N + n];
        if (grad.z != nullptr) grad.z[at + i] = dy * ungated * gate * (S(1.0) + z * (S(1.0) - gate));
        dy = dy * z * gate;
      }
      S dinput = S(0.0);  // gradient of dt x
      for (int64_t n = 0; n < N; ++n) {
        const S gradient = dy * C[n] + carry[i * N + n];
        const S kept = position == 0 ? S(0.0) : decay * before[i * N + n];
        dC[n] = dC[n] + dy * after[i * N + n];
        dB[n] = dB[n] + gradient * dt * x;
        dinput = dinput + gradient * B[n];
        da = da + gradient * kept;
        carry[i * N + n] = position == 0 ? S(0.0) : decay * gradient;
      }
      grad.x[at + i] = dt * dinput + (p.D != nullptr ? p.D[h] * dy : S(0.0));
      ddt = ddt + x * dinput;
      if (grad.D != nullptr) grad.D[h] = grad.D[h] + dy * x;
    }
    ddt = ddt + p.A[h] * da;
    grad.A[h] = grad.A[h] + dt * da;
    const S raw = raw_step_reference(p, b, t, h), unclamped = unclamped_step_reference(p, raw);
    if (unclamped < S(p.dt_low) || unclamped > S(p.dt_high)) ddt = S(0.0);
    if (p.dt_softplus && !(raw > S(kSoftplusThreshold))) ddt = ddt * sigmoid_reference(raw);
    if (grad.dt_bias != nullptr) grad.dt_bias[h] = grad.dt_bias[h] + ddt;
    *ddt_out = ddt;
  }
  for (int64_t i = 0; i < size && grad.initial_state != nullptr; ++i) grad.initial_state[row + i] = carry[i];
}

// Backward: fills every non-null gradient (full sums, see Gradients). Keeps (L + 1) P N values for one head at a time.
template <class S>
void ssd_reference_backward(const Params<S>& p, const Gradients<S>& grad) {
  for (int64_t i = 0; i < p.batch * p.length * p.groups * p.states; ++i) grad.B[i] = grad.C[i] = S(0.0);
  for (int64_t h = 0; h < p.heads; ++h) {
    grad.A[h] = S(0.0);
    if (grad.D != nullptr) grad.D[h] = S(0.0);
    if (grad.dt_bias != nullptr) grad.dt_bias[h] = S(0.0);
  }
  std::vector<S> states((p.length + 1) * p.head_size * p.states, S(0.0));
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) ssd_reference_backward_head(p, grad, b, h, states);
  }
}

extern template void ssd_reference(const Params<float>&);
extern template void ssd_reference(const Params<double>&);
extern template void ssd_reference_backward(const Params<float>&, const Gradients<float>&);
extern template void ssd_reference_backward(const Params<double>&, const Gradients<double>&);

}  // namespace hippodrome::ssd_kernel
