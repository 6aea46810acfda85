// The recurrence of op.h in plain loops, forward and backward, over any scalar with + - * /, exp, log1p, tanh and
// comparisons.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "architectures/recurrent/additive_attention/reference.h"
#include "architectures/recurrent/attentive_scan/op.h"

namespace hippodrome {
namespace attentive_scan_reference {

template <class T>
T sigmoid(T x) {
  using std::exp;
  return T(1) / (T(1) + exp(-x));
}

// y[o] += Σ_k w[o, k] x[k] for the outputs [first, last).
template <class T>
void add_product(const T* w, const T* x, int64_t first, int64_t last, int64_t depth, T* y) {
  for (int64_t o = first; o < last; ++o) {
    for (int64_t k = 0; k < depth; ++k) y[o] = y[o] + w[o * depth + k] * x[k];
  }
}

// Its adjoint for the same outputs: grad_x += wᵀ grad_y, grad_w += grad_y xᵀ.
template <class T>
void add_product_backward(const T* w, const T* x, const T* grad_y, int64_t first, int64_t last, int64_t depth,
                          T* grad_x, T* grad_w) {
  for (int64_t o = first; o < last; ++o) {
    for (int64_t k = 0; k < depth; ++k) {
      grad_x[k] = grad_x[k] + w[o * depth + k] * grad_y[o];
      grad_w[o * depth + k] = grad_w[o * depth + k] + grad_y[o] * x[k];
    }
  }
}

template <class T>
void set_or_zero(const T* from, int64_t row, int64_t size, std::vector<T>& to) {
  for (int64_t j = 0; j < size; ++j) to[static_cast<size_t>(j)] = from ? from[row * size + j] : T(0);
}

}  // namespace attentive_scan_reference

template <class T>
void attentive_scan_forward_reference(const AttentiveScanForward<T>& p) {
  using namespace attentive_scan_reference;
  using std::tanh;
  const AttentiveScanShape& a = p.shape;
  const int64_t n = a.hidden, G = a.gates(), A = a.features, M = a.width;
  std::vector<T> s(n), cell(n), reset(n), q(A), gates(G), weights;
  for (int64_t b = 0; b < a.batch; ++b) {
    const int64_t source = a.source_of(b);
    set_or_zero(p.s0, b, n, s);
    set_or_zero(p.c0, b, n, cell);
    for (int64_t token = b * a.length; token < (b + 1) * a.length; ++token) {
      const int64_t position = p.positions ? p.positions[token] : 1;
      T* context = p.contexts + token * M;
      T lse(0);
      q.assign(A, T(0));
      gates.assign(G, T(0));
      if (position == 0) s.assign(s.size(), T(0));
      if (position == 0) cell.assign(cell.size(), T(0));
      if (position < 0) {
        for (int64_t m = 0; m < M; ++m) context[m] = T(0);
      } else {
        add_product(p.weight_q, s.data(), 0, A, n, q.data());
        lse = additive_context(p.rows[source], q.data(), p.keys + source * a.keys * A, p.v, A,
                               p.values + source * a.keys * M, M, weights, context);
        for (int64_t j = 0; j < G; ++j) gates[j] = p.gates[token * G + j];
        add_product(p.weight_c, context, 0, G, M, gates.data());
        add_product(p.weight_hh, s.data(), 0, a.lstm ? G : 2 * n, n, gates.data());
        if (a.lstm) {
          for (int64_t j = 0; j < n; ++j) {
            T &i = gates[j], &f = gates[n + j], &g = gates[2 * n + j], &o = gates[3 * n + j];
            i = sigmoid(i);
            f = sigmoid(f);
            g = tanh(g);
            o = sigmoid(o);
            cell[j] = f * cell[j] + i * g;
            s[j] = o * tanh(cell[j]);
          }
        } else {
          for (int64_t j = 0; j < 2 * n; ++j) gates[j] = sigmoid(gates[j]);
          for (int64_t j = 0; j < n; ++j) reset[j] = gates[j] * s[j];
          add_product(p.weight_hh, reset.data(), 2 * n, G, n, gates.data());
          for (int64_t j = 0; j < n; ++j) {
            const T z = gates[n + j];
            gates[2 * n + j] = tanh(gates[2 * n + j]);
            s[j] = (T(1) - z) * s[j] + z * gates[2 * n + j];
          }
        }
      }
      for (int64_t j = 0; j < n; ++j) p.s[token * n + j] = position < 0 ? T(0) : s[j];
      if (p.activated) {
        for (int64_t j = 0; j < G; ++j) p.activated[token * G + j] = gates[j];
        for (int64_t j = 0; j < n; ++j) p.states[token * n + j] = s[j];
        for (int64_t j = 0; j < n && a.lstm; ++j) p.cells[token * n + j] = cell[j];
        for (int64_t h = 0; h < A; ++h) p.queries[token * A + h] = q[h];
        p.lse[token] = lse;
      }
    }
    for (int64_t j = 0; j < n; ++j) p.final_s[b * n + j] = s[j];
    for (int64_t j = 0; j < n && a.lstm; ++j) p.final_c[b * n + j] = cell[j];
  }
}

template <class T>
void attentive_scan_backward_reference(const AttentiveScanBackward<T>& p) {
  using namespace attentive_scan_reference;
  using std::tanh;
  const AttentiveScanShape& a = p.shape;
  const int64_t n = a.hidden, G = a.gates(), A = a.features, M = a.width;
  std::vector<T> ds(n), dcell(n), before(n), cell_before(n), reset(n), dreset(n), dcontext(M), kept(n);
  for (int64_t b = 0; b < a.batch; ++b) {
    const int64_t source = a.source_of(b);
    set_or_zero(p.grad_final_s, b, n, ds);
    set_or_zero(a.lstm ? p.grad_final_c : nullptr, b, n, dcell);
    for (int64_t t = a.length - 1; t >= 0; --t) {
      const int64_t token = b * a.length + t;
      const int64_t position = p.positions ? p.positions[token] : 1;
      T *dgates = p.grad_gates + token * G, *dq = p.grad_queries + token * A;
      for (int64_t h = 0; h < A; ++h) dq[h] = T(0);
      for (int64_t j = 0; j < G; ++j) dgates[j] = T(0);
      if (position < 0) continue;
      const auto carried = [&](const T* initial, const T* all, std::vector<T>& to) {
        set_or_zero(position == 0 ? nullptr : t == 0 ? initial : all, t == 0 ? b : token - 1, n, to);
      };
      carried(p.s0, p.states, before);
      if (a.lstm) carried(p.c0, p.cells, cell_before);
      const T* gate = p.activated + token * G;
      for (int64_t j = 0; j < n; ++j) ds[j] = ds[j] + p.grad_s[token * n + j];
      if (a.lstm) {
        for (int64_t j = 0; j < n; ++j) {
          const T i = gate[j], f = gate[n + j], g = gate[2 * n + j], o = gate[3 * n + j];
          const T squashed = tanh(p.cells[token * n + j]);
          const T dc = dcell[j] + ds[j] * o * (T(1) - squashed * squashed);
          dgates[j] = dc * g * i * (T(1) - i);
          dgates[n + j] = dc * cell_before[j] * f * (T(1) - f);
          dgates[2 * n + j] = dc * i * (T(1) - g * g);
          dgates[3 * n + j] = ds[j] * squashed * o * (T(1) - o);
          dcell[j] = dc * f;
          kept[j] = T(0);
        }
      } else {
        for (int64_t j = 0; j < n; ++j) {
          const T r = gate[j], z = gate[n + j], candidate = gate[2 * n + j];
          dgates[n + j] = ds[j] * (candidate - before[j]) * z * (T(1) - z);
          dgates[2 * n + j] = ds[j] * z * (T(1) - candidate * candidate);
          kept[j] = ds[j] * (T(1) - z);
          reset[j] = r * before[j];
          dreset[j] = T(0);
        }
        add_product_backward(p.weight_hh, reset.data(), dgates, 2 * n, G, n, dreset.data(), p.grad_weight_hh);
        for (int64_t j = 0; j < n; ++j) {
          dgates[j] = dreset[j] * before[j] * gate[j] * (T(1) - gate[j]);
          kept[j] = kept[j] + dreset[j] * gate[j];
        }
      }
      add_product_backward(p.weight_hh, before.data(), dgates, 0, a.lstm ? G : 2 * n, n, kept.data(), p.grad_weight_hh);
      for (int64_t m = 0; m < M; ++m) dcontext[m] = p.grad_contexts[token * M + m];
      add_product_backward(p.weight_c, p.contexts + token * M, dgates, 0, G, M, dcontext.data(), p.grad_weight_c);
      additive_query_backward(p.rows[source],
                              AdditiveQueryAdjoint<T>{p.queries + token * A, p.contexts + token * M, dcontext.data(),
                                                      p.lse[token], T(0), dq},
                              p.keys + source * a.keys * A, p.v, A, p.values + source * a.keys * M, M,
                              p.grad_keys + source * a.keys * A, p.grad_v, p.grad_values + source * a.keys * M);
      add_product_backward(p.weight_q, before.data(), dq, 0, A, n, kept.data(), p.grad_weight_q);
      for (int64_t j = 0; j < n; ++j) {
        ds[j] = position == 0 ? T(0) : kept[j];
        if (position == 0 && a.lstm) dcell[j] = T(0);
      }
    }
    for (int64_t j = 0; j < n; ++j) p.grad_s0[b * n + j] = ds[j];
    for (int64_t j = 0; j < n && a.lstm; ++j) p.grad_c0[b * n + j] = dcell[j];
  }
}

}  // namespace hippodrome
