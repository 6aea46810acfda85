// attentive_scan, forward and backward, for one instruction set. A thread takes its rows through all tokens alone,
// without barriers; at a token all its rows go through every weight together.
#if defined(HIPPODROME_ATTENTIVE_SCAN_SCAN_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HIPPODROME_ATTENTIVE_SCAN_SCAN_INL_H_
#undef HIPPODROME_ATTENTIVE_SCAN_SCAN_INL_H_
#else
#define HIPPODROME_ATTENTIVE_SCAN_SCAN_INL_H_
#endif

#include "architectures/recurrent/attentive_scan/cells-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::attentive_scan_kernel::HWY_NAMESPACE {

template <class T>
void forward(const AttentiveScanForward<T>& p, int64_t begin, int64_t end) {
  const AttentiveScanShape& a = p.shape;
  const int64_t n = a.hidden, G = a.gates(), A = a.features, M = a.width;
  const auto count = static_cast<size_t>(end - begin);
  const T total_v = additive::total(p.v, A);
  additive::Block<T> block(A);
  std::vector<T> state(count * n), cell(count * n), reset(count * n), query(count * A), gate(count * G);
  const auto start = [&](size_t m) {
    const int64_t row = (begin + static_cast<int64_t>(m)) * n;
    p.s0 ? std::copy_n(p.s0 + row, n, &state[m * n]) : std::fill_n(&state[m * n], n, T(0));
    p.c0 ? std::copy_n(p.c0 + row, n, &cell[m * n]) : std::fill_n(&cell[m * n], n, T(0));
  };
  for (size_t m = 0; m < count; ++m) start(m);
  // Of the rows whose token is none of padding.
  std::vector<const T*> states(count), contexts(count), resets(count);
  std::vector<T*> queries(count), gates(count), candidates(count);
  std::vector<size_t> active(count);
  for (int64_t t = 0; t < a.length; ++t) {
    size_t rows = 0;
    for (size_t m = 0; m < count; ++m) {
      const int64_t token = (begin + static_cast<int64_t>(m)) * a.length + t;
      const int64_t position = p.positions != nullptr ? p.positions[token] : 1;
      if (position == 0) {
        std::fill_n(&state[m * n], n, T(0));
        std::fill_n(&cell[m * n], n, T(0));
      }
      T *g = &gate[m * G], *q = &query[m * A];
      std::fill_n(q, A, T(0));
      if (position < 0) {
        std::fill_n(g, G, T(0));
        std::fill_n(p.contexts + token * M, M, T(0));
        if (p.lse != nullptr) p.lse[token] = T(0);
        continue;
      }
      std::copy_n(p.gates + token * G, G, g);
      active[rows] = m;
      states[rows] = &state[m * n];
      resets[rows] = &reset[m * n];
      contexts[rows] = p.contexts + token * M;
      queries[rows] = q;
      gates[rows] = g;
      candidates[rows++] = g + 2 * n;
    }
    add_products(p.weight_q, A, n, states, queries, rows);
    for (size_t i = 0; i < rows; ++i) {
      const int64_t row = begin + static_cast<int64_t>(active[i]), token = row * a.length + t;
      const additive::Source<T> source = source_at(p, a.source_of(row));
      T lse;
      block.take_queries(queries[i], 1, source);
      additive::attend(source, block, total_v, p.contexts + token * M, &lse);
      if (p.lse != nullptr) p.lse[token] = lse;
    }
    add_products(p.weight_c, G, M, contexts, gates, rows);
    add_products(p.weight_hh, a.lstm ? G : 2 * n, n, states, gates, rows);
    if (a.lstm) {
      for (size_t i = 0; i < rows; ++i) lstm_state(gates[i], n, &cell[active[i] * n], &state[active[i] * n]);
    } else {
      for (size_t i = 0; i < rows; ++i) gru_gates(gates[i], n, states[i], &reset[active[i] * n]);
      add_products(p.weight_hh + 2 * n * n, n, n, resets, candidates, rows);
      for (size_t i = 0; i < rows; ++i) gru_state(gates[i], n, &state[active[i] * n]);
    }
    for (size_t m = 0; m < count; ++m) {
      const int64_t token = (begin + static_cast<int64_t>(m)) * a.length + t;
      const bool padding = p.positions != nullptr && p.positions[token] < 0;
      padding ? std::fill_n(p.s + token * n, n, T(0)) : std::copy_n(&state[m * n], n, p.s + token * n);
      if (p.activated == nullptr) continue;
      std::copy_n(&gate[m * G], G, p.activated + token * G);
      std::copy_n(&state[m * n], n, p.states + token * n);
      std::copy_n(&query[m * A], A, p.queries + token * A);
      if (a.lstm) std::copy_n(&cell[m * n], n, p.cells + token * n);
    }
  }
  std::copy_n(state.data(), count * n, p.final_s + begin * n);
  if (a.lstm) std::copy_n(cell.data(), count * n, p.final_c + begin * n);
}

template <class T>
void backward(const AttentiveScanBackward<T>& p, int64_t begin, int64_t end) {
  const AttentiveScanShape& a = p.shape;
  const int64_t n = a.hidden, G = a.gates(), A = a.features, M = a.width, each = a.batch / a.sources;
  const int64_t first = begin * each;
  const auto count = static_cast<size_t>((end - begin) * each);
  const T total_v = additive::total(p.v, A), no_grad = T(0);
  additive::Block<T> block(A);
  std::vector<T> ds(p.grad_final_s + first * n, p.grad_final_s + (first + static_cast<int64_t>(count)) * n);
  std::vector<T> dcell(count * n), dreset(count * n), dcontext(count * M), zeros(n),
      scores(static_cast<size_t>(end - begin));
  if (a.lstm) std::copy_n(p.grad_final_c + first * n, count * n, dcell.data());
  std::fill_n(p.partial_v + begin * A, (end - begin) * A, T(0));
  std::vector<CellAdjoint<T>> cells(count);
  std::vector<const T*> grad_gates(count), grad_candidates(count), grad_queries(count);
  std::vector<T*> kept(count), resets(count), contexts(count);
  std::vector<size_t> active(count);
  for (int64_t t = a.length - 1; t >= 0; --t) {
    size_t rows = 0;
    for (size_t m = 0; m < count; ++m) {
      const int64_t row = first + static_cast<int64_t>(m), token = row * a.length + t;
      const int64_t position = p.positions != nullptr ? p.positions[token] : 1;
      std::fill_n(p.grad_queries + token * A, A, T(0));
      if (position < 0) {
        std::fill_n(p.grad_gates + token * G, G, T(0));
        std::fill_n(p.previous_s + token * n, n, T(0));
        if (!a.lstm) std::fill_n(p.reset_s + token * n, n, T(0));
        continue;
      }
      const auto before = [&](const T* initial, const T* all) {
        const T* carried = t > 0 ? all + (token - 1) * n : initial != nullptr ? initial + row * n : nullptr;
        return position == 0 || carried == nullptr ? static_cast<const T*>(zeros.data()) : carried;
      };
      CellAdjoint<T>& cell = cells[rows];
      cell = {p.activated + token * G,
              before(p.s0, p.states),
              a.lstm ? before(p.c0, p.cells) : nullptr,
              a.lstm ? p.cells + token * n : nullptr,
              p.grad_s + token * n,
              &ds[m * n],
              &dcell[m * n],
              p.grad_gates + token * G,
              a.lstm ? nullptr : p.reset_s + token * n};
      std::copy_n(cell.before, n, p.previous_s + token * n);
      std::copy_n(p.grad_contexts + token * M, M, &dcontext[m * M]);
      active[rows] = m;
      grad_gates[rows] = cell.grad_gates;
      grad_candidates[rows] = cell.grad_gates + 2 * n;
      grad_queries[rows] = p.grad_queries + token * A;
      kept[rows] = cell.ds;
      resets[rows] = &dreset[m * n];
      contexts[rows++] = &dcontext[m * M];
    }
    if (a.lstm) {
      for (size_t i = 0; i < rows; ++i) lstm_backward(cells[i], n);
    } else {
      for (size_t i = 0; i < rows; ++i) {
        gru_backward(cells[i], n);
        std::fill_n(resets[i], n, T(0));
      }
      add_products(p.candidate, n, n, grad_candidates, resets, rows);
      for (size_t i = 0; i < rows; ++i) gru_reset_backward(cells[i], n, resets[i]);
    }
    add_products(p.recurrent, n, a.lstm ? G : 2 * n, grad_gates, kept, rows);
    add_products(p.of_context, M, G, grad_gates, contexts, rows);
    for (size_t i = 0; i < rows; ++i) {
      const int64_t row = first + static_cast<int64_t>(active[i]), token = row * a.length + t, at = a.source_of(row);
      const additive::Source<T> source = source_at(p, at);
      T* grad_q = p.grad_queries + token * A;
      block.take_queries(p.queries + token * A, 1, source);
      additive::attend_backward(source, block, total_v, 0, source.visible->count(),
                                {p.contexts + token * M, contexts[i], p.lse + token, &no_grad, grad_q},
                                {p.grad_keys + at * a.keys * A, p.grad_values + at * a.keys * M, p.partial_v + at * A});
      additive::scale_by_v(p.v, A, grad_q);
    }
    add_products(p.of_query, n, A, grad_queries, kept, rows);
    for (size_t i = 0; i < rows; ++i) {
      const int64_t row = first + static_cast<int64_t>(active[i]);
      if (p.positions == nullptr || p.positions[row * a.length + t] != 0) continue;
      std::fill_n(kept[i], n, T(0));
      if (a.lstm) std::fill_n(cells[i].dcell, n, T(0));
    }
  }
  for (size_t j = 0; j < count * n; ++j) {
    p.grad_s0[first * n + static_cast<int64_t>(j)] = ds[j];
    if (a.lstm) p.grad_c0[first * n + static_cast<int64_t>(j)] = dcell[j];
  }
  for (int64_t at = begin; at < end; ++at) {
    const VisibleKeys& visible = p.rows[at];
    for (int64_t j = 0; j < visible.count(); ++j) {
      additive::scale_by_v(p.v, A, p.grad_keys + (at * a.keys + visible.column(j)) * A);
    }
  }
}

}  // namespace hippodrome::attentive_scan_kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
