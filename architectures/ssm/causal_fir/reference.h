// The sums of op.h in plain loops, forward and backward, over any scalar with + and *.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "architectures/ssm/causal_fir/op.h"

namespace hippodrome {

template <class T>
void causal_fir_forward_reference(const CausalFirForward<T>& p) {
  const int64_t K = p.taps, D = p.channels;
  std::vector<T> window(static_cast<size_t>(K), T(0));  // newest first
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t d = 0; d < D; ++d) {
      for (int64_t j = 0; j < K; ++j) window[j] = p.state ? p.state[(b * K + K - 1 - j) * D + d] : T(0);
      for (int64_t t = 0; t < p.length; ++t) {
        const int64_t at = (b * p.length + t) * D + d, position = p.positions ? p.positions[b * p.length + t] : 1;
        p.y[at] = T(0);
        if (position < 0) continue;
        if (position == 0) std::fill(window.begin(), window.end(), T(0));
        std::copy_backward(window.begin(), window.end() - 1, window.end());
        window[0] = p.x[at];
        T sum(0);
        for (int64_t j = 0; j < K; ++j) sum = sum + p.weight[j * D + d] * window[j];
        p.y[at] = sum;
      }
      for (int64_t j = 0; j < K; ++j) p.last_state[(b * K + K - 1 - j) * D + d] = window[j];
    }
  }
}

// Where the inputs of a window came from: tokens 0 … L-1, the state's entries as -1-k, or nowhere (L).
template <class T>
void causal_fir_backward_reference(const CausalFirBackward<T>& p) {
  const int64_t K = p.taps, L = p.length, D = p.channels, nowhere = L;
  std::fill_n(p.grad_weight, K * D, T(0));
  std::fill_n(p.grad_x, p.batch * L * D, T(0));
  std::fill_n(p.grad_state, p.batch * K * D, T(0));
  std::vector<int64_t> source(static_cast<size_t>(K));  // newest first
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t d = 0; d < D; ++d) {
      const auto input = [&](int64_t s) {
        if (s == nowhere || (s < 0 && !p.state)) return T(0);
        return s < 0 ? p.state[(b * K - 1 - s) * D + d] : p.x[(b * L + s) * D + d];
      };
      const auto add = [&](int64_t s, T gradient) {
        if (s == nowhere) return;
        T& sum = s < 0 ? p.grad_state[(b * K - 1 - s) * D + d] : p.grad_x[(b * L + s) * D + d];
        sum = sum + gradient;
      };
      for (int64_t j = 0; j < K; ++j) source[j] = -K + j;
      for (int64_t t = 0; t < L; ++t) {
        const int64_t position = p.positions ? p.positions[b * L + t] : 1;
        if (position < 0) continue;
        if (position == 0) std::fill(source.begin(), source.end(), nowhere);
        std::copy_backward(source.begin(), source.end() - 1, source.end());
        source[0] = t;
        const T g = p.grad_y[(b * L + t) * D + d];
        for (int64_t j = 0; j < K; ++j) {
          T& sum = p.grad_weight[j * D + d];
          sum = sum + g * input(source[j]);
          add(source[j], p.weight[j * D + d] * g);
        }
      }
      for (int64_t j = 0; j < K; ++j) add(source[j], p.grad_last_state[(b * K + K - 1 - j) * D + d]);
    }
  }
}

}  // namespace hippodrome
