// Plain loops of causal_conv1d: the oracle. `Scalar` needs + - * /, a conversion from double and an `exp` found by
// argument-dependent lookup.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "architectures/ssm/causal_conv1d/op.h"

namespace hippodrome {

template <class Scalar>
void causal_conv1d_forward_reference(const CausalConv1dForward<Scalar>& p) {
  using std::exp;
  const int64_t K = p.taps;
  std::vector<Scalar> window(static_cast<size_t>(K), Scalar(0.0));  // the token itself is the last entry
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t c = 0; c < p.channels; ++c) {
      const int64_t state = (b * p.channels + c) * (K - 1);
      for (int64_t j = 0; j + 1 < K; ++j) window[j] = p.initial_state ? p.initial_state[state + j] : Scalar(0.0);
      for (int64_t t = 0; t < p.time; ++t) {
        Scalar& y = p.y[(b * p.time + t) * p.channels + c];
        if (p.positions != nullptr && p.positions[b * p.time + t] < 0) {
          y = Scalar(0.0);
          continue;
        }
        if (p.positions != nullptr && p.positions[b * p.time + t] == 0) {
          for (int64_t j = 0; j + 1 < K; ++j) window[j] = Scalar(0.0);
        }
        window[K - 1] = p.x.data[b * p.x.batch_stride + t * p.x.row_stride + c];
        Scalar sum = p.bias ? p.bias[c] : Scalar(0.0);
        for (int64_t j = 0; j < K; ++j) sum = sum + p.weight[c * K + j] * window[j];
        y = p.silu ? sum / (Scalar(1.0) + exp(Scalar(0.0) - sum)) : sum;
        for (int64_t j = 0; j + 1 < K; ++j) window[j] = window[j + 1];
      }
      for (int64_t j = 0; j + 1 < K; ++j) p.final_state[state + j] = window[j];
    }
  }
}

// Every tap of every token is looked up in a table of where its input came from; its gradient goes back there.
template <class Scalar>
void causal_conv1d_backward_reference(const CausalConv1dBackward<Scalar>& p) {
  using std::exp;
  const int64_t K = p.taps, L = p.time, D = p.channels;
  const int64_t rows = p.batch * causal_conv1d_tiles(L) * (K + 1) * D;
  for (int64_t i = 0; i < rows; ++i) p.grad_parameter_rows[i] = Scalar(0.0);
  for (int64_t i = 0; i < p.batch * L * D; ++i) p.grad_x[i] = Scalar(0.0);
  for (int64_t i = 0; i < p.batch * D * (K - 1); ++i) p.grad_initial_state[i] = Scalar(0.0);

  // Inputs are numbered -K+1 .. -1 in the initial state and 0 .. L-1 in x; `nowhere` is a zero before a sequence start.
  const int64_t nowhere = L;
  std::vector<int64_t> source(static_cast<size_t>((L + 1) * K));  // the last row: what the final state holds
  for (int64_t b = 0; b < p.batch; ++b) {
    const int64_t* positions = p.positions == nullptr ? nullptr : p.positions + b * L;
    std::vector<int64_t> window(static_cast<size_t>(K));
    for (int64_t j = 0; j + 1 < K; ++j) window[j] = j - (K - 1);
    for (int64_t t = 0; t <= L; ++t) {
      if (t < L && positions != nullptr && positions[t] < 0) continue;
      if (t < L && positions != nullptr && positions[t] == 0) window.assign(static_cast<size_t>(K), nowhere);
      window[K - 1] = t;
      for (int64_t j = 0; j < K; ++j) source[t * K + j] = window[j];
      for (int64_t j = 0; j + 1 < K; ++j) window[j] = window[j + 1];
    }
    for (int64_t c = 0; c < D; ++c) {
      const int64_t state = (b * D + c) * (K - 1);
      const auto input = [&](int64_t s) {
        if (s == nowhere || (s < 0 && p.initial_state == nullptr)) return Scalar(0.0);
        return s < 0 ? p.initial_state[state + K - 1 + s] : p.x.data[b * p.x.batch_stride + s * p.x.row_stride + c];
      };
      const auto add_gradient = [&](int64_t s, Scalar g) {
        if (s == nowhere) return;
        Scalar& sum = s < 0 ? p.grad_initial_state[state + K - 1 + s] : p.grad_x[(b * L + s) * D + c];
        sum = sum + g;
      };
      Scalar* parameters = p.grad_parameter_rows + b * causal_conv1d_tiles(L) * (K + 1) * D + c;
      for (int64_t t = 0; t < L; ++t) {
        if (positions != nullptr && positions[t] < 0) continue;
        Scalar g = p.grad_y.data[b * p.grad_y.batch_stride + t * p.grad_y.row_stride + c];
        if (p.silu) {
          Scalar sum = p.bias ? p.bias[c] : Scalar(0.0);
          for (int64_t j = 0; j < K; ++j) sum = sum + p.weight[c * K + j] * input(source[t * K + j]);
          const Scalar sigmoid = Scalar(1.0) / (Scalar(1.0) + exp(Scalar(0.0) - sum));
          g = g * sigmoid * (Scalar(1.0) + sum * (Scalar(1.0) - sigmoid));
        }
        for (int64_t j = 0; j < K; ++j) {
          parameters[j * D] = parameters[j * D] + g * input(source[t * K + j]);
          add_gradient(source[t * K + j], p.weight[c * K + j] * g);
        }
        parameters[K * D] = parameters[K * D] + g;
      }
      for (int64_t j = 0; j + 1 < K && p.grad_final_state != nullptr; ++j) {
        add_gradient(source[L * K + j], p.grad_final_state[state + j]);
      }
    }
  }
}

extern template void causal_conv1d_forward_reference<float>(const CausalConv1dForward<float>&);
extern template void causal_conv1d_forward_reference<double>(const CausalConv1dForward<double>&);
extern template void causal_conv1d_backward_reference<float>(const CausalConv1dBackward<float>&);
extern template void causal_conv1d_backward_reference<double>(const CausalConv1dBackward<double>&);

}  // namespace hippodrome
