// What the CPU and the CUDA operators of causal_fir share: checks and allocation. Sizes may be symbolic.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <tuple>

#include "architectures/ssm/causal_fir/op.h"
#include "core/tensor/op_binding.h"

namespace hippodrome::causal_fir_op {

using Outputs = std::tuple<Tensor, Tensor>;
using Gradients = std::tuple<Tensor, Tensor, Tensor>;

inline void check(const Tensor& x, const Tensor& weight, const OptionalTensor& state, const OptionalTensor& positions) {
  const auto dtype = x.scalar_type();
  TORCH_CHECK(dtype == at::kFloat || dtype == at::kDouble || dtype == at::kBFloat16,
              "causal_fir: x must be float32, float64 or bfloat16, not ", dtype);
  TORCH_CHECK(x.dim() == 3, "causal_fir: x must be [B, L, D], got ", x.sym_sizes());
  TORCH_CHECK(weight.dim() == 2 && weight.sym_size(1) == x.sym_size(2),
              "causal_fir: weight must be [K, D] with D = ", x.sym_size(2), ", got ", weight.sym_sizes());
  const auto taps = weight.sym_size(0);
  TORCH_CHECK(taps >= 1 && taps <= kCausalFirMaxTaps, "causal_fir: weight must have 1 to ", kCausalFirMaxTaps,
              " taps, got ", taps);
  const auto precise = [&](const Tensor& t) {
    return t.is_floating_point() && (t.scalar_type() == at::kDouble) == (dtype == at::kDouble);
  };
  TORCH_CHECK(precise(weight), "causal_fir: float64 x, weight and state go together; got ", dtype, " x with ",
              weight.scalar_type(), " weight");
  TORCH_CHECK(!given(state) || (state->dim() == 3 && state->sym_size(0) == x.sym_size(0) &&
                                state->sym_size(1) == taps && state->sym_size(2) == x.sym_size(2) && precise(*state)),
              "causal_fir: state must be [B, K, D] = [", x.sym_size(0), ", ", taps, ", ", x.sym_size(2),
              "] of x's precision");
  check_positions("causal_fir", positions, x.sym_size(0), x.sym_size(1));
}

inline Outputs make_outputs(const Tensor& x, const Tensor& weight, at::ScalarType dtype) {
  return {at::empty_symint(x.sym_sizes(), x.options().dtype(dtype)),
          at::empty_symint({x.sym_size(0), weight.sym_size(0), x.sym_size(2)}, x.options().dtype(compute_dtype(x)))};
}

inline Gradients make_gradients(const Tensor& x, const Tensor& weight) {
  const auto options = x.options().dtype(compute_dtype(x));
  return {at::empty_symint(x.sym_sizes(), options), at::empty_symint(weight.sym_sizes(), options),
          at::empty_symint({x.sym_size(0), weight.sym_size(0), x.sym_size(2)}, options)};
}

}  // namespace hippodrome::causal_fir_op
