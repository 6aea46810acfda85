// What the CPU and the CUDA operator of lstm_scan share: checks and the tensors they return.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <tuple>

#include "core/tensor/op_binding.h"

namespace hippodrome::lstm_scan_op {

using Outputs = std::tuple<Tensor, Tensor, Tensor>;
using Saved = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;
using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;

inline void check(const Tensor& gates, const Tensor& weight_hh, const OptionalTensor& h0, const OptionalTensor& c0,
                  const OptionalTensor& positions) {
  const auto dtype = gates.scalar_type();
  TORCH_CHECK(dtype == at::kFloat || dtype == at::kDouble || dtype == at::kBFloat16 || dtype == at::kHalf,
              "lstm_scan: gates must be float32, float64, bfloat16 or float16, not ", dtype);
  TORCH_CHECK(gates.dim() == 3 && weight_hh.dim() == 2,
              "lstm_scan: gates must be [B, L, 4H] and weight_hh [4H, H], got ", gates.sym_sizes(), " and ",
              weight_hh.sym_sizes());
  const auto hidden = weight_hh.sym_size(1);
  TORCH_CHECK(gates.sym_size(2) == 4 * hidden && weight_hh.sym_size(0) == 4 * hidden,
              "lstm_scan: gates must be [B, L, 4H] and weight_hh [4H, H], got ", gates.sym_sizes(), " and ",
              weight_hh.sym_sizes());
  for (const OptionalTensor* state : {&h0, &c0}) {
    TORCH_CHECK(
        !given(*state) ||
            ((*state)->dim() == 2 && (*state)->sym_size(0) == gates.sym_size(0) && (*state)->sym_size(1) == hidden),
        "lstm_scan: h0 and c0 must be [B, H] = [", gates.sym_size(0), ", ", hidden, "], got ", (*state)->sym_sizes());
  }
  check_positions("lstm_scan", positions, gates.sym_size(0), gates.sym_size(1));
  TORCH_CHECK(!given(positions) || positions->device() == gates.device(),
              "lstm_scan: positions must be on the device of gates, ", gates.device());
  for (const Tensor* t : {&weight_hh, given(h0) ? &*h0 : nullptr, given(c0) ? &*c0 : nullptr}) {
    TORCH_CHECK(t == nullptr || t->device() == gates.device(),
                "lstm_scan: all tensors must be on one device; got gates on ", gates.device(), " and another on ",
                t->device());
    TORCH_CHECK(t == nullptr || (t->is_floating_point() && (t->scalar_type() == at::kDouble) == (dtype == at::kDouble)),
                "lstm_scan: float64 gates, weight_hh, h0 and c0 go together; got ", dtype, " gates with ",
                t->scalar_type());
  }
}

// What forward returns, not set; without `save` what only backward needs has no elements.
inline Saved make_outputs(const Tensor& gates, const Tensor& weight_hh, bool save) {
  const auto batch = gates.sym_size(0), length = gates.sym_size(1), hidden = weight_hh.sym_size(1);
  const auto state = gates.options().dtype(compute_dtype(gates));
  return {at::empty_symint({batch, length, hidden}, gates.options()), at::empty_symint({batch, hidden}, state),
          at::empty_symint({batch, hidden}, state),
          save ? at::empty_symint({batch, length, 4 * hidden}, state) : at::empty({0}, state),
          save ? at::empty_symint({batch, length, hidden}, state) : at::empty({0}, state)};
}

}  // namespace hippodrome::lstm_scan_op
