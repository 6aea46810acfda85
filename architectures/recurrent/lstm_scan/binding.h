// What the CPU and the CUDA operator of lstm_scan share: checks and the tensors they return.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <tuple>

#include "architectures/recurrent/scan_binding.h"
#include "core/tensor/op_binding.h"

namespace hippodrome::lstm_scan_op {

using Outputs = std::tuple<Tensor, Tensor, Tensor>;
using Saved = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;
using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;

inline void check(const Tensor& gates, const Tensor& weight_hh, const OptionalTensor& h0, const OptionalTensor& c0,
                  const OptionalTensor& positions) {
  recurrent::check_scan("lstm_scan", 4, gates, weight_hh, {{"h0", h0}, {"c0", c0}}, positions);
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
