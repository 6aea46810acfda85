// What the CPU and the CUDA operator of gru_scan share: checks and the tensors they return.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <tuple>

#include "core/tensor/op_binding.h"

namespace hippodrome::gru_scan_op {

using Outputs = std::tuple<Tensor, Tensor>;
using Saved = std::tuple<Tensor, Tensor, Tensor, Tensor>;
using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;

inline void check(const Tensor& gates, const Tensor& weight_hh, const Tensor& bias_hn, const OptionalTensor& h0,
                  const OptionalTensor& positions) {
  const auto dtype = gates.scalar_type();
  TORCH_CHECK(dtype == at::kFloat || dtype == at::kDouble || dtype == at::kBFloat16 || dtype == at::kHalf,
              "gru_scan: gates must be float32, float64, bfloat16 or float16, not ", dtype);
  TORCH_CHECK(gates.dim() == 3 && weight_hh.dim() == 2,
              "gru_scan: gates must be [B, L, 3H] and weight_hh [3H, H], got ", gates.sym_sizes(), " and ",
              weight_hh.sym_sizes());
  const auto hidden = weight_hh.sym_size(1);
  TORCH_CHECK(gates.sym_size(2) == 3 * hidden && weight_hh.sym_size(0) == 3 * hidden,
              "gru_scan: gates must be [B, L, 3H] and weight_hh [3H, H], got ", gates.sym_sizes(), " and ",
              weight_hh.sym_sizes());
  TORCH_CHECK(bias_hn.dim() == 1 && bias_hn.sym_size(0) == hidden, "gru_scan: bias_hn must be [H] = [", hidden,
              "], got ", bias_hn.sym_sizes());
  TORCH_CHECK(!given(h0) || (h0->dim() == 2 && h0->sym_size(0) == gates.sym_size(0) && h0->sym_size(1) == hidden),
              "gru_scan: h0 must be [B, H] = [", gates.sym_size(0), ", ", hidden, "], got ", h0->sym_sizes());
  check_positions("gru_scan", positions, gates.sym_size(0), gates.sym_size(1));
  TORCH_CHECK(!given(positions) || positions->device() == gates.device(),
              "gru_scan: positions must be on the device of gates, ", gates.device());
  for (const Tensor* t : {&weight_hh, &bias_hn, given(h0) ? &*h0 : nullptr}) {
    TORCH_CHECK(t == nullptr || t->device() == gates.device(),
                "gru_scan: all tensors must be on one device; got gates on ", gates.device(), " and another on ",
                t->device());
    TORCH_CHECK(t == nullptr || (t->is_floating_point() && (t->scalar_type() == at::kDouble) == (dtype == at::kDouble)),
                "gru_scan: float64 gates, weight_hh, bias_hn and h0 go together; got ", dtype, " gates with ",
                t->scalar_type());
  }
}

// What forward returns, not set; without `save` what only backward needs has no elements.
inline Saved make_outputs(const Tensor& gates, const Tensor& weight_hh, bool save) {
  const auto batch = gates.sym_size(0), length = gates.sym_size(1), hidden = weight_hh.sym_size(1);
  const auto state = gates.options().dtype(compute_dtype(gates));
  return {at::empty_symint({batch, length, hidden}, gates.options()), at::empty_symint({batch, hidden}, state),
          save ? at::empty_symint({batch, length, 4 * hidden}, state) : at::empty({0}, state),
          save ? at::empty_symint({batch, length, hidden}, state) : at::empty({0}, state)};
}

}  // namespace hippodrome::gru_scan_op
