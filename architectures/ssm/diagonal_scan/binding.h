// From LibTorch tensors to the kernels' parameters: checks and allocation. Shared by the CPU and the CUDA operators.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/ScalarType.h>
#include <c10/util/Exception.h>

#include <array>
#include <tuple>

#include "architectures/ssm/diagonal_scan/op.h"
#include "core/tensor/op_binding.h"

namespace hippodrome::diagonal_scan_op {

using Outputs = std::tuple<Tensor, Tensor>;
using Saved = std::tuple<Tensor, Tensor, Tensor>;
using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;
using Parameters = std::array<Tensor, 6>;  // a, b, c, real before imaginary

inline void check(const Tensor& u, const Parameters& parameters, const OptionalTensor& state,
                  const OptionalTensor& positions) {
  const auto dtype = u.scalar_type();
  TORCH_CHECK(dtype == at::kFloat || dtype == at::kDouble || dtype == at::kBFloat16,
              "diagonal_scan: u must be float32, float64 or bfloat16, not ", dtype);
  TORCH_CHECK(u.dim() == 3, "diagonal_scan: u must be [B, D, L], got ", u.sym_sizes());
  for (const Tensor& t : parameters) {
    TORCH_CHECK(t.dim() == 2 && t.sym_size(0) == u.sym_size(1) && t.sym_size(1) == parameters[0].sym_size(1),
                "diagonal_scan: a, b and c must all be [D, N] with D = ", u.sym_size(1), ", got ", t.sym_sizes());
    TORCH_CHECK(t.is_floating_point() && (t.scalar_type() == at::kDouble) == (dtype == at::kDouble),
                "diagonal_scan: float64 u, a, b, c and state go together; got ", dtype, " u with ", t.scalar_type());
  }
  const auto states = parameters[0].sym_size(1);
  TORCH_CHECK(!given(state) ||
                  (state->dim() == 4 && state->sym_size(0) == u.sym_size(0) && state->sym_size(1) == u.sym_size(1) &&
                   state->sym_size(2) == states && state->sym_size(3) == 2 && state->is_floating_point() &&
                   (state->scalar_type() == at::kDouble) == (dtype == at::kDouble)),
              "diagonal_scan: state must be [B, D, N, 2] = [", u.sym_size(0), ", ", u.sym_size(1), ", ", states,
              ", 2], real and imaginary parts, of u's precision");
  check_positions("diagonal_scan", positions, u.sym_size(0), u.sym_size(2));
}

inline Saved make_outputs(const Tensor& u, const Parameters& parameters, at::ScalarType dtype, bool save) {
  const auto batch = u.sym_size(0), channels = u.sym_size(1), length = u.sym_size(2),
             states = parameters[0].sym_size(1);
  const auto options = u.options().dtype(compute_dtype(u));
  return {empty_channels_last(u, dtype), at::empty_symint({batch, channels, states, 2}, options),
          save ? at::empty_symint(
                     {batch, (length + (kDiagonalScanChunk - 1)) / kDiagonalScanChunk,
                      (channels + (kDiagonalScanGroup - 1)) / kDiagonalScanGroup, states, 2, kDiagonalScanGroup},
                     options)
               : at::empty({0}, options)};
}

inline Gradients make_gradients(const Tensor& u, const Parameters& parameters, const Tensor& grad_last_state) {
  const auto options = u.options().dtype(compute_dtype(u));
  const auto like = [&](const Tensor& t) { return at::empty_symint(t.sym_sizes(), options); };
  return {empty_channels_last(u, compute_dtype(u)),
          like(parameters[0]),
          like(parameters[1]),
          like(parameters[2]),
          like(parameters[3]),
          like(parameters[4]),
          like(parameters[5]),
          like(grad_last_state)};
}

}  // namespace hippodrome::diagonal_scan_op
