// The equations of op.h in plain loops, forward and backward, over any scalar with + - * /, exp, log1p, tanh and
// comparisons.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "architectures/recurrent/additive_attention/op.h"

namespace hippodrome {

// Σ_h v_h tanh(q_h + k_h)
template <class T>
T additive_score(const T* q, const T* k, const T* v, int64_t size) {
  using std::tanh;
  T sum(0);
  for (int64_t h = 0; h < size; ++h) sum = sum + v[h] * tanh(q[h] + k[h]);
  return sum;
}

// The weights p of one query into weights [visible keys], for keys k [S, H] of one row; returns lse.
template <class T>
T additive_weights(const VisibleKeys& row, const T* q, const T* k, const T* v, int64_t size, std::vector<T>& weights) {
  using std::exp;
  using std::log1p;
  weights.clear();
  for (int64_t j = 0; j < row.count(); ++j) weights.push_back(additive_score(q, k + row.column(j) * size, v, size));
  if (weights.empty()) return T(0);
  const T largest = *std::max_element(weights.begin(), weights.end());
  T sum(0);
  for (T& weight : weights) {
    weight = exp(weight - largest);
    sum = sum + weight;
  }
  for (T& weight : weights) weight = weight / sum;
  return largest + log1p(sum - T(1));
}

// c [M] of one query; returns lse.
template <class T>
T additive_context(const VisibleKeys& row, const T* q, const T* k, const T* v, int64_t size, const T* values,
                   int64_t width, std::vector<T>& weights, T* context) {
  const T lse = additive_weights(row, q, k, v, size, weights);
  for (int64_t m = 0; m < width; ++m) context[m] = T(0);
  for (int64_t j = 0; j < row.count(); ++j) {
    const T* value = values + row.column(j) * width;
    for (int64_t m = 0; m < width; ++m) context[m] = context[m] + weights[static_cast<size_t>(j)] * value[m];
  }
  return lse;
}

template <class T>
void additive_attention_forward_reference(const AdditiveAttentionForward<T>& p) {
  std::vector<T> weights;
  for (int64_t b = 0; b < p.batch; ++b) {
    const T *k = p.k + b * p.keys * p.size, *values = p.values + b * p.keys * p.width;
    for (int64_t i = b * p.queries; i < (b + 1) * p.queries; ++i) {
      p.lse[i] = additive_context(p.rows[b], p.q + i * p.size, k, p.v, p.size, values, p.width, weights,
                                  p.context + i * p.width);
    }
  }
}

template <class T>
void additive_attention_weights_reference(const AdditiveAttentionForward<T>& p) {
  std::vector<T> weights;
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t i = b * p.queries; i < (b + 1) * p.queries; ++i) {
      T* out = p.context + i * p.keys;
      for (int64_t j = 0; j < p.keys; ++j) out[j] = T(0);
      p.lse[i] = additive_weights(p.rows[b], p.q + i * p.size, p.k + b * p.keys * p.size, p.v, p.size, weights);
      for (int64_t j = 0; j < p.rows[b].count(); ++j) out[p.rows[b].column(j)] = weights[static_cast<size_t>(j)];
    }
  }
}

// The adjoint of one query, added to the gradients of a row's keys and values.
template <class T>
struct AdditiveQueryAdjoint {
  const T *q, *context, *grad_context;
  T lse, grad_lse;
  T* grad_q;
};
template <class T>
void additive_query_backward(const VisibleKeys& row, const AdditiveQueryAdjoint<T>& query, const T* k, const T* v,
                             int64_t size, const T* values, int64_t width, T* grad_k, T* grad_v, T* grad_values) {
  using std::exp;
  using std::tanh;
  T common = -query.grad_lse;
  for (int64_t m = 0; m < width; ++m) common = common + query.grad_context[m] * query.context[m];
  for (int64_t j = 0; j < row.count(); ++j) {
    const int64_t column = row.column(j);
    const T *key = k + column * size, *value = values + column * width;
    const T weight = exp(additive_score(query.q, key, v, size) - query.lse);
    T product(0);
    for (int64_t m = 0; m < width; ++m) {
      product = product + query.grad_context[m] * value[m];
      grad_values[column * width + m] = grad_values[column * width + m] + weight * query.grad_context[m];
    }
    const T grad_score = weight * (product - common);
    for (int64_t h = 0; h < size; ++h) {
      const T t = tanh(query.q[h] + key[h]);
      const T grad = grad_score * v[h] * (T(1) - t * t);
      query.grad_q[h] = query.grad_q[h] + grad;
      grad_k[column * size + h] = grad_k[column * size + h] + grad;
      grad_v[h] = grad_v[h] + grad_score * t;
    }
  }
}

template <class T>
void additive_attention_backward_reference(const AdditiveAttentionBackward<T>& p) {
  for (int64_t b = 0; b < p.batch; ++b) {
    const int64_t keys = b * p.keys;
    for (int64_t i = b * p.queries; i < (b + 1) * p.queries; ++i) {
      const AdditiveQueryAdjoint<T> query{p.q + i * p.size, p.context + i * p.width, p.grad_context + i * p.width,
                                          p.lse[i],         p.grad_lse[i],           p.grad_q + i * p.size};
      additive_query_backward(p.rows[b], query, p.k + keys * p.size, p.v, p.size, p.values + keys * p.width, p.width,
                              p.grad_k + keys * p.size, p.grad_v, p.grad_values + keys * p.width);
    }
  }
}

}  // namespace hippodrome
