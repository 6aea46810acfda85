// What the bindings of attentive_scan for the CPU (op.cpp) and for CUDA (cuda_binding.h) share.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <string>
#include <tuple>
#include <vector>

#include "architectures/recurrent/attentive_scan/op.h"
#include "core/tensor/op_binding.h"

namespace hippodrome::attentive_scan_op {

using Outputs = std::tuple<Tensor, Tensor, Tensor, Tensor>;
// s, contexts, final s, final c; and for backward activated, states, cells, queries, lse and, where the first two are
// narrower than the compute dtype, contexts in it.
using Saved = std::tuple<Tensor, Tensor, Tensor, Tensor, std::vector<Tensor>>;
// Of gates, weight_hh, weight_c, weight_q, keys, v, values, s0, c0.
using Gradients = std::vector<Tensor>;

// The arguments of the op as they come.
struct Arguments {
  const std::string cell;
  const Tensor gates, weight_hh, weight_c, weight_q, keys, v, values;
  const OptionalTensor s0, c0, source_positions, positions;

  bool lstm() const { return cell == "lstm"; }
  int64_t count() const { return lstm() ? 4 : 3; }
  bool narrow() const { return gates.scalar_type() != compute_dtype(gates); }

  void check() const {
    TORCH_CHECK(cell == "gru" || cell == "lstm", "attentive_scan: cell must be gru or lstm, not ", cell);
    const auto dtype = gates.scalar_type();
    TORCH_CHECK(dtype == at::kFloat || dtype == at::kDouble || dtype == at::kBFloat16 || dtype == at::kHalf,
                "attentive_scan: gates must be float32, float64, bfloat16 or float16, not ", dtype);
    const auto expect = [&](const char* name, const Tensor& t, const std::vector<c10::SymInt>& sizes) {
      TORCH_CHECK(t.sym_sizes().equals(sizes), "attentive_scan: ", name, " must be ", c10::SymIntArrayRef(sizes),
                  ", got ", t.sym_sizes());
      TORCH_CHECK(t.is_floating_point() && (t.scalar_type() == at::kDouble) == (dtype == at::kDouble),
                  "attentive_scan: all tensors are float64 or none is; got ", dtype, " gates with ", t.scalar_type(),
                  " ", name);
    };
    TORCH_CHECK(
        gates.dim() == 3 && weight_hh.dim() == 2 && weight_q.dim() == 2 && keys.dim() == 3 && values.dim() == 3,
        "attentive_scan: gates must be [B, L, G n], weight_hh [G n, n], weight_q [A, n], keys [B', S, A] and values"
        " [B', S, M], got ",
        gates.sym_sizes(), ", ", weight_hh.sym_sizes(), ", ", weight_q.sym_sizes(), ", ", keys.sym_sizes(), " and ",
        values.sym_sizes());
    const auto batch = gates.sym_size(0), length = gates.sym_size(1), hidden = weight_hh.sym_size(1);
    const auto sources = keys.sym_size(0), length_s = keys.sym_size(1), features = weight_q.sym_size(0);
    expect("gates", gates, {batch, length, count() * hidden});
    expect("weight_hh", weight_hh, {count() * hidden, hidden});
    expect("weight_c", weight_c, {count() * hidden, values.sym_size(2)});
    expect("weight_q", weight_q, {features, hidden});
    expect("keys", keys, {sources, length_s, features});
    expect("v", v, {features});
    expect("values", values, {sources, length_s, values.sym_size(2)});
    TORCH_CHECK(sources > 0 && batch % sources == 0, "attentive_scan: the ", batch,
                " rows of gates must be a multiple of the ", sources, " sources");
    if (given(s0)) expect("s0", *s0, {batch, hidden});
    TORCH_CHECK(lstm() || !given(c0), "attentive_scan: c0 is the lstm's; a gru has no cell");
    if (given(c0)) expect("c0", *c0, {batch, hidden});
    const auto expect_positions = [&](const char* name, const OptionalTensor& t, const c10::SymInt& rows,
                                      const c10::SymInt& tokens) {
      TORCH_CHECK(!given(t) || (t->scalar_type() == at::kLong && t->dim() == 2 && t->sym_size(0) == rows &&
                                t->sym_size(1) == tokens),
                  "attentive_scan: ", name, " must be int64 [", rows, ", ", tokens, "]");
    };
    expect_positions("source_positions", source_positions, sources, length_s);
    expect_positions("positions", positions, batch, length);
  }

  Saved make_outputs(bool save) const {
    const auto batch = gates.sym_size(0), length = gates.sym_size(1), hidden = weight_hh.sym_size(1);
    const auto width = values.sym_size(2);
    const auto wide = gates.options().dtype(compute_dtype(gates));
    const auto state = [&](bool there) {
      return there ? at::empty_symint({batch, hidden}, wide) : at::empty({0}, wide);
    };
    std::vector<Tensor> kept;
    if (save) {
      kept = {at::empty_symint(gates.sym_sizes(), wide),
              at::empty_symint({batch, length, hidden}, wide),
              lstm() ? at::empty_symint({batch, length, hidden}, wide) : at::empty({0}, wide),
              at::empty_symint({batch, length, weight_q.sym_size(0)}, wide),
              at::empty_symint({batch, length}, wide),
              narrow() ? at::empty_symint({batch, length, width}, wide) : at::empty({0}, wide)};
    }
    return {at::empty_symint({batch, length, hidden}, gates.options()),
            at::empty_symint({batch, length, width}, gates.options()), state(true), state(lstm()), kept};
  }
  // The same where all arrays are contiguous and of the compute dtype.
  Arguments readable() const {
    const auto dtype = compute_dtype(gates);
    const auto wide = [&](const Tensor& t) { return t.to(dtype).contiguous(); };
    const auto wide_or_none = [&](const OptionalTensor& t) {
      return given(t) ? OptionalTensor(wide(*t)) : std::nullopt;
    };
    return {cell,
            wide(gates),
            wide(weight_hh),
            wide(weight_c),
            wide(weight_q),
            wide(keys),
            wide(v),
            wide(values),
            wide_or_none(s0),
            wide_or_none(c0),
            source_positions,
            given(positions) ? OptionalTensor(positions->contiguous()) : std::nullopt};
  }
  AttentiveScanShape shape() const {
    return {lstm(),           gates.size(0),  gates.size(1), weight_hh.size(1),
            weight_q.size(0), values.size(2), keys.size(0),  keys.size(1)};
  }
};

}  // namespace hippodrome::attentive_scan_op

// The parameters of the ops, until the end of the file that registers them.
#define HIPPODROME_ATTENTIVE_PARAMETERS                                                                                \
  c10::string_view cell, const Tensor &gates, const Tensor &weight_hh, const Tensor &weight_c, const Tensor &weight_q, \
      const Tensor &keys, const Tensor &v, const Tensor &values, const OptionalTensor &s0, const OptionalTensor &c0,   \
      const OptionalTensor &source_positions, const OptionalTensor &positions
#define HIPPODROME_ATTENTIVE_ARGUMENTS \
  cell, gates, weight_hh, weight_c, weight_q, keys, v, values, s0, c0, source_positions, positions
