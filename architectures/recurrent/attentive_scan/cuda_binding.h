// attentive_scan on a GPU, of LibTorch's operators and the kernels of additive attention. Tokens come one after the
// other; what limits it are some twenty launches a token. The gradients of the weights, keys, values and v are taken of
// all tokens at once behind the loop. The equations are op.h's.
#pragma once

#include <ATen/ops/addmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <vector>

#include "architectures/recurrent/additive_attention/cuda_binding.h"
#include "architectures/recurrent/attentive_scan/binding.h"

namespace hippodrome::attentive_scan_cuda {

using attentive_scan_op::Arguments;

// Whether tokens are padding and whether they start a sequence, bool [B, L, 1]; undefined without positions.
struct Marks {
  Tensor padding, start;

  explicit Marks(const OptionalTensor& positions) {
    if (!given(positions)) return;
    padding = positions->lt(0).unsqueeze(-1);
    start = positions->eq(0).unsqueeze(-1);
  }
  static Tensor zeroed(const Tensor& x, const Tensor& where) { return where.defined() ? x.masked_fill(where, 0.0) : x; }
  static Tensor zeroed(const Tensor& x, const Tensor& where, int64_t t) {
    return where.defined() ? x.masked_fill(where.select(1, t), 0.0) : x;
  }
  // `kept` where token t is padding.
  Tensor unless_padding(const Tensor& x, const Tensor& kept, int64_t t) const {
    return padding.defined() ? at::where(padding.select(1, t), kept, x) : x;
  }
};

// The rows of U that act on s_{t-1} itself.
inline int64_t direct_gates(const AttentiveScanShape& a) { return a.lstm ? a.gates() : 2 * a.hidden; }

inline Tensor initial(const OptionalTensor& given_state, const AttentiveScanShape& a, const Tensor& like) {
  return given(given_state) ? *given_state : at::zeros({a.batch, a.hidden}, like.options());
}

inline attentive_scan_op::Saved forward(const additive_cuda::Kernels& attention, const Arguments& arguments,
                                        bool save) {
  arguments.check();
  const Arguments in = arguments.readable();
  const AttentiveScanShape a = in.shape();
  const int64_t n = a.hidden, A = a.features, direct = direct_gates(a);
  const auto options = in.gates.options();
  const auto numbers = [&](int64_t width) { return at::empty({a.batch, a.length, width}, options); };
  // q and the products of U in one.
  const Tensor of_state = at::cat({in.weight_q, in.weight_hh.narrow(0, 0, direct)}).t();
  const Tensor of_reset = in.weight_hh.narrow(0, direct, a.gates() - direct).t(), of_context = in.weight_c.t();
  const Marks marks(in.positions);
  const Tensor all_s = numbers(n), all_contexts = numbers(a.width), none = at::empty({0}, options);
  const Tensor activated = save ? numbers(a.gates()) : none, states = save ? numbers(n) : none;
  const Tensor cells = save && a.lstm ? numbers(n) : none, queries = save ? numbers(A) : none;
  const Tensor all_lse = save ? at::empty({a.batch, a.length}, options) : none;
  Tensor s = initial(in.s0, a, in.gates), cell = a.lstm ? initial(in.c0, a, in.gates) : none;
  for (int64_t t = 0; t < a.length; ++t) {
    s = Marks::zeroed(s, marks.start, t);
    const Tensor products = at::mm(s, of_state), q = products.narrow(1, 0, A);
    auto [attended, lse] = additive_cuda::forward(attention, q.reshape({a.sources, a.batch / a.sources, A}), in.keys,
                                                  in.v, in.values, in.source_positions);
    const Tensor context = attended.view({a.batch, a.width});
    const Tensor gates = at::addmm(in.gates.select(1, t), context, of_context);
    gates.narrow(1, 0, direct).add_(products.narrow(1, A, direct));
    const auto gate = [&](int64_t i) { return gates.narrow(1, i * n, n); };
    Tensor next;
    if (a.lstm) {
      gates.narrow(1, 0, 2 * n).sigmoid_();
      gate(2).tanh_();
      gate(3).sigmoid_();
      const Tensor before = Marks::zeroed(cell, marks.start, t), after = gate(1).mul(before).addcmul_(gate(0), gate(2));
      next = gate(3).mul(after.tanh());
      cell = marks.unless_padding(after, before, t);
    } else {
      gates.narrow(1, 0, 2 * n).sigmoid_();
      gate(2).addmm_(gate(0).mul(s), of_reset).tanh_();
      next = s.addcmul(gate(1), gate(2).sub(s));
    }
    all_s.select(1, t).copy_(Marks::zeroed(next, marks.padding, t));
    all_contexts.select(1, t).copy_(Marks::zeroed(context, marks.padding, t));
    s = marks.unless_padding(next, s, t);
    if (!save) continue;
    activated.select(1, t).copy_(gates);
    states.select(1, t).copy_(s);
    if (a.lstm) cells.select(1, t).copy_(cell);
    queries.select(1, t).copy_(q);
    all_lse.select(1, t).copy_(lse.view({a.batch}));
  }
  const auto dtype = arguments.gates.scalar_type();
  std::vector<Tensor> kept;
  if (save) kept = {activated, states, cells, queries, all_lse, arguments.narrow() ? all_contexts : none};
  // A state that went through unchanged is not to be the argument itself.
  const auto own = [](const Tensor& t, const OptionalTensor& argument) {
    return given(argument) && t.is_alias_of(*argument) ? t.clone() : t;
  };
  return {all_s.to(dtype), all_contexts.to(dtype), own(s, arguments.s0), own(cell, arguments.c0), kept};
}

// grads: of s, contexts, final s and final c; contexts in the compute dtype. Gradients in the compute dtype.
inline attentive_scan_op::Gradients backward(const additive_cuda::Kernels& attention, const std::vector<Tensor>& grads,
                                             const Arguments& arguments, const Tensor& contexts,
                                             const std::vector<Tensor>& kept) {
  const Arguments in = arguments.readable();
  const AttentiveScanShape a = in.shape();
  const int64_t n = a.hidden, G = a.gates(), tokens = a.batch * a.length, direct = direct_gates(a);
  const auto dtype = compute_dtype(in.gates);
  const auto options = in.gates.options();
  const auto numbers = [&](int64_t width) { return at::empty({a.batch, a.length, width}, options); };
  const Tensor of_state = in.weight_hh.narrow(0, 0, direct), of_reset = in.weight_hh.narrow(0, direct, G - direct);
  const Marks marks(in.positions);
  const Tensor &states = kept[1], &cells = kept[2], &queries = kept[3], &lse = kept[4];
  const Tensor activated = Marks::zeroed(kept[0], marks.padding);  // of gates that may have been anything there
  const Tensor grad_s = grads[0].to(dtype), grad_contexts = grads[1].to(dtype);
  // What a token began from.
  const auto shifted = [&](const OptionalTensor& first, const Tensor& all) {
    const Tensor rest = all.narrow(1, 0, std::max<int64_t>(0, a.length - 1));
    const Tensor before = at::cat({initial(first, a, in.gates).unsqueeze(1), rest}, 1).narrow(1, 0, a.length);
    return Marks::zeroed(before, marks.start);
  };
  const Tensor before = shifted(in.s0, states), cell_before = a.lstm ? shifted(in.c0, cells) : Tensor();
  const Tensor grad_gates = numbers(G), grad_queries = numbers(a.features), grad_attended = numbers(a.width);
  const int64_t hypotheses = a.batch / a.sources;
  const Tensor no_lse = at::zeros({a.sources, hypotheses}, options);
  const auto of_sources = [&](const Tensor& x) { return x.reshape({a.sources, hypotheses, -1}); };

  Tensor ds = grads[2].to(dtype), dcell = a.lstm ? grads[3].to(dtype) : Tensor();
  for (int64_t t = a.length - 1; t >= 0; --t) {
    const Tensor gates = activated.select(1, t), s = before.select(1, t), d = ds.add(grad_s.select(1, t));
    const auto gate = [&](int64_t i) { return gates.narrow(1, i * n, n); };
    const auto slope = [](const Tensor& sigmoid) { return sigmoid.mul(sigmoid.neg().add_(1.0)); };
    const auto tanh_slope = [](const Tensor& tanh) { return tanh.square().neg_().add_(1.0); };
    Tensor gates_gradient, through, through_cell;
    if (a.lstm) {
      const Tensor squashed = cells.select(1, t).tanh();
      const Tensor dc = dcell.add(d.mul(gate(3)).mul_(tanh_slope(squashed)));
      gates_gradient =
          at::cat({dc.mul(gate(2)).mul_(slope(gate(0))), dc.mul(cell_before.select(1, t)).mul_(slope(gate(1))),
                   dc.mul(gate(0)).mul_(tanh_slope(gate(2))), d.mul(squashed).mul_(slope(gate(3)))},
                  1);
      through_cell = dc.mul(gate(1));
    } else {
      const Tensor z = gate(1), candidate = d.mul(z).mul_(tanh_slope(gate(2))), reset = at::mm(candidate, of_reset);
      gates_gradient = at::cat({reset.mul(s).mul_(slope(gate(0))), d.mul(gate(2).sub(s)).mul_(slope(z)), candidate}, 1);
      through = d.sub(d.mul(z)).add_(reset.mul(gate(0)));
    }
    gates_gradient = Marks::zeroed(gates_gradient, marks.padding, t);
    const Tensor of_direct = gates_gradient.narrow(1, 0, direct);
    through = through.defined() ? at::addmm(through, of_direct, of_state) : at::mm(of_direct, of_state);
    const Tensor dcontext =
        Marks::zeroed(at::addmm(grad_contexts.select(1, t), gates_gradient, in.weight_c), marks.padding, t);
    const Tensor dq =
        additive_cuda::grad_queries(attention, of_sources(dcontext), no_lse, of_sources(queries.select(1, t)), in.keys,
                                    in.v, in.values, of_sources(contexts.select(1, t)),
                                    lse.select(1, t).reshape({a.sources, hypotheses}), in.source_positions)
            .reshape({a.batch, a.features});
    through = at::addmm(through, dq, in.weight_q);
    ds = Marks::zeroed(marks.unless_padding(through, ds, t), marks.start, t);
    if (a.lstm) dcell = Marks::zeroed(marks.unless_padding(through_cell, dcell, t), marks.start, t);
    grad_gates.select(1, t).copy_(gates_gradient);
    grad_queries.select(1, t).copy_(dq);
    grad_attended.select(1, t).copy_(dcontext);
  }

  const auto flat = [&](const Tensor& x) { return x.reshape({tokens, x.size(2)}); };
  const Tensor of_gates = flat(grad_gates).t(), previous = flat(before);
  Tensor grad_hh = at::mm(of_gates.narrow(0, 0, direct), previous);
  if (!a.lstm) {
    const Tensor reset = flat(activated.narrow(2, 0, n).mul(before));
    grad_hh = at::cat({grad_hh, at::mm(of_gates.narrow(0, direct, n), reset)});
  }
  // The queries of a source's hypotheses and tokens are queries of one row.
  const int64_t together = hypotheses * a.length;
  const auto joined = [&](const Tensor& x) { return x.reshape({a.sources, together, x.size(2)}); };
  auto [unused, grad_keys, grad_v, grad_values] = additive_cuda::backward(
      attention, joined(grad_attended), at::zeros({a.sources, together}, options), joined(queries), in.keys, in.v,
      in.values, joined(contexts), lse.reshape({a.sources, together}), in.source_positions);
  return {grad_gates,
          grad_hh,
          at::mm(of_gates, flat(contexts)),
          at::mm(flat(grad_queries).t(), previous),
          grad_keys,
          grad_v,
          grad_values,
          ds,
          a.lstm ? dcell : at::empty({0}, options)};
}

}  // namespace hippodrome::attentive_scan_cuda
