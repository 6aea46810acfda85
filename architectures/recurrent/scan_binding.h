// What the operators of the recurrent scans (lstm_scan, gru_scan) ask of their arguments.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/SymInt.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <initializer_list>
#include <utility>

#include "core/tensor/op_binding.h"

namespace hippodrome::recurrent {

// That t can be read along with gates.
inline void check_beside_gates(const char* op, const char* name, const Tensor& t, const Tensor& gates) {
  TORCH_CHECK(t.device() == gates.device(), op, ": all tensors must be on one device; got gates on ", gates.device(),
              " and ", name, " on ", t.device());
  TORCH_CHECK(t.is_floating_point() && (t.scalar_type() == at::kDouble) == (gates.scalar_type() == at::kDouble), op,
              ": all tensors are float64 or none is; got ", gates.scalar_type(), " gates with ", t.scalar_type(), " ",
              name);
}

// Of a cell with `count` gates: gates [B, L, count H], weight_hh [count H, H], states [B, H], with their names, and
// positions int64 [B, L]; the latter two may be absent.
inline void check_scan(const char* op, int64_t count, const Tensor& gates, const Tensor& weight_hh,
                       std::initializer_list<std::pair<const char*, OptionalTensor>> states,
                       const OptionalTensor& positions) {
  const auto dtype = gates.scalar_type();
  TORCH_CHECK(dtype == at::kFloat || dtype == at::kDouble || dtype == at::kBFloat16 || dtype == at::kHalf, op,
              ": gates must be float32, float64, bfloat16 or float16, not ", dtype);
  TORCH_CHECK(gates.dim() == 3 && weight_hh.dim() == 2 && weight_hh.sym_size(0) == count * weight_hh.sym_size(1) &&
                  gates.sym_size(2) == weight_hh.sym_size(0),
              op, ": gates must be [B, L, ", count, "H] and weight_hh [", count, "H, H], got ", gates.sym_sizes(),
              " and ", weight_hh.sym_sizes());
  const c10::SymInt batch = gates.sym_size(0), hidden = weight_hh.sym_size(1);
  check_beside_gates(op, "weight_hh", weight_hh, gates);
  for (const auto& [name, state] : states) {
    if (!given(state)) continue;
    TORCH_CHECK(has_shape(*state, {batch, hidden}), op, ": ", name, " must be [B, H] = [", batch, ", ", hidden,
                "], got ", state->sym_sizes());
    check_beside_gates(op, name, *state, gates);
  }
  check_positions(op, positions, batch, gates.sym_size(1));
  TORCH_CHECK(!given(positions) || positions->device() == gates.device(), op,
              ": positions must be on the device of gates, ", gates.device());
}

}  // namespace hippodrome::recurrent
