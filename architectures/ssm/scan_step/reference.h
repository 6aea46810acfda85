// Plain loops of scan_step, the oracle and the CPU's kernel. Equations: op.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "architectures/ssm/scan_step/op.h"

namespace hippodrome::scan_step {

template <class S>
void scan_step_reference(const Params<S, S>& p) {
  const int64_t N = p.states, P = p.head_size;
  for (int64_t b = 0; b < p.batch; ++b) {
    const int64_t position = p.positions != nullptr ? p.positions[b] : 1;
    for (int64_t h = 0; h < p.heads; ++h) {
      const int64_t group = h / (p.heads / p.groups) * N;
      const S *B = p.B.data + b * p.B.batch + group, *C = p.C.data + b * p.C.batch + group;
      S dt = p.dt.data[b * p.dt.batch + h];
      if (p.dt_bias != nullptr) dt += p.dt_bias[h];
      if (p.dt_softplus && !(dt > S(kSoftplusThreshold))) dt = std::log1p(std::exp(dt));
      dt = std::clamp(dt, static_cast<S>(p.dt_low), static_cast<S>(p.dt_high));
      for (int64_t d = h * P; d < (h + 1) * P; ++d) {
        S& y = p.y[b * p.heads * P + d];
        y = S(0);
        if (position < 0) continue;
        S* const state = p.state + (b * p.heads * P + d) * N;
        const S x = p.x.data[b * p.x.batch + d];
        for (int64_t n = 0; n < N; ++n) {
          const S before = position == 0 ? S(0) : state[n];
          state[n] = std::exp(dt * p.A[h * p.decays + (p.decays == 1 ? 0 : n)]) * before + dt * x * B[n];
          y += C[n] * state[n];
        }
        if (p.D != nullptr) y += p.D[h] * x;
        if (p.z.data != nullptr) {
          const S z = p.z.data[b * p.z.batch + d];
          y *= z / (S(1) + std::exp(-z));
        }
      }
    }
  }
}

extern template void scan_step_reference(const Params<float, float>&);
extern template void scan_step_reference(const Params<double, double>&);

}  // namespace hippodrome::scan_step
