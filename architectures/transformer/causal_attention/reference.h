// The equations of op.h in plain loops, forward and backward, over any scalar with + - * /, exp, log1p and comparisons.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "architectures/transformer/causal_attention/op.h"

namespace hippodrome {

template <class T>
T attention_dot(const T* a, const T* b, int64_t size) {
  T sum(0);
  for (int64_t c = 0; c < size; ++c) sum = sum + a[c] * b[c];
  return sum;
}

template <class T>
void causal_attention_forward_reference(const CausalAttentionForward<T>& p) {
  using std::exp;
  using std::log1p;
  std::vector<T> weights;
  for (int64_t b = 0; b < p.batch; ++b) {
    const SeenTokens& row = p.rows[b];
    for (int64_t h = 0; h < p.heads; ++h) {
      const int64_t g = h * p.kv_heads / p.heads;
      for (int64_t token = row.first_query(); token < row.count(); ++token) {
        const int64_t query = row.column(token) - (p.keys - p.queries), first = row.first_seen(token);
        const T* q = p.q.at(b, h, query);
        weights.clear();
        for (int64_t j = first; j <= token; ++j) {
          weights.push_back(attention_dot(q, p.k.at(b, g, row.column(j)), p.size) * p.scale);
        }
        const T largest = *std::max_element(weights.begin(), weights.end());
        T sum(0);
        for (T& weight : weights) {
          weight = exp(weight - largest);
          sum = sum + weight;
        }
        T* y = p.y.at(b, h, query);
        for (int64_t c = 0; c < p.size; ++c) y[c] = T(0);
        for (int64_t j = first; j <= token; ++j) {
          const T* v = p.v.at(b, g, row.column(j));
          for (int64_t c = 0; c < p.size; ++c) y[c] = y[c] + weights[static_cast<size_t>(j - first)] * v[c];
        }
        for (int64_t c = 0; c < p.size; ++c) y[c] = y[c] / sum;
        p.lse[(b * p.heads + h) * p.queries + query] = largest + log1p(sum - T(1));
      }
    }
  }
}

template <class T>
void causal_attention_backward_reference(const CausalAttentionBackward<T>& p) {
  using std::exp;
  for (int64_t b = 0; b < p.batch; ++b) {
    const SeenTokens& row = p.rows[b];
    for (int64_t h = 0; h < p.heads; ++h) {
      const int64_t g = h * p.kv_heads / p.heads;
      for (int64_t token = row.first_query(); token < row.count(); ++token) {
        const int64_t query = row.column(token) - (p.keys - p.queries);
        const int64_t at = (b * p.heads + h) * p.queries + query;
        const T *q = p.q.at(b, h, query), *dy = p.grad_y.at(b, h, query);
        T* dq = p.grad_q.at(b, h, query);
        const T d = attention_dot(dy, p.y.at(b, h, query), p.size) - p.grad_lse[at];
        for (int64_t j = row.first_seen(token); j <= token; ++j) {
          const int64_t key = row.column(j);
          const T *k = p.k.at(b, g, key), *v = p.v.at(b, g, key);
          T *dk = p.grad_k.at(b, g, key), *dv = p.grad_v.at(b, g, key);
          const T weight = exp(attention_dot(q, k, p.size) * p.scale - p.lse[at]);
          const T ds = weight * (attention_dot(dy, v, p.size) - d) * p.scale;
          for (int64_t c = 0; c < p.size; ++c) {
            dv[c] = dv[c] + weight * dy[c];
            dq[c] = dq[c] + ds * k[c];
            dk[c] = dk[c] + ds * q[c];
          }
        }
      }
    }
  }
}

}  // namespace hippodrome
