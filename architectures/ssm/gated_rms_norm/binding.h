// What the CPU and the CUDA operators of gated_rms_norm ask of their arguments, and how they see them as rows.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include "architectures/ssm/gated_rms_norm/op.h"
#include "core/tensor/op_binding.h"

namespace hippodrome::gated_rms_norm_op {

inline void check(const Tensor& x, const Tensor& z, const Tensor& weight, int64_t groups) {
  const auto is_taken = [](const Tensor& t) {
    const auto dtype = t.scalar_type();
    return dtype == at::kFloat || dtype == at::kDouble || dtype == at::kBFloat16 || dtype == at::kHalf;
  };
  TORCH_CHECK(is_taken(x) && is_taken(weight) && z.scalar_type() == x.scalar_type(),
              "gated_rms_norm: x and z must have one dtype, float32, float64, bfloat16 or float16, and weight one of ",
              "these, not ", x.scalar_type(), ", ", z.scalar_type(), " and ", weight.scalar_type());
  TORCH_CHECK(x.dim() > 0 && has_shape(z, x.sym_sizes()), "gated_rms_norm: x and z must be [..., W], both, not ",
              x.sym_sizes(), " and ", z.sym_sizes());
  TORCH_CHECK(has_shape(weight, {x.sym_size(-1)}), "gated_rms_norm: weight must be [W] with W = ", x.sym_size(-1),
              ", not ", weight.sym_sizes());
  TORCH_CHECK(groups >= 1 && x.sym_size(-1) % groups == 0, "gated_rms_norm: the width ", x.sym_size(-1),
              " does not divide into ", groups, " groups");
  TORCH_CHECK(z.device() == x.device() && weight.device() == x.device(),
              "gated_rms_norm: all tensors must be on one device");
}

inline Sizes sizes_of(const Tensor& x, int64_t groups, double epsilon, bool norm_before_gate) {
  const int64_t width = x.size(-1);
  return {width == 0 ? 0 : x.numel() / width, width, groups, epsilon, norm_before_gate};
}

// t [..., W] as [n, W] in `dtype` with contiguous rows: a view where its memory allows.
inline Tensor as_rows(const Tensor& t, at::ScalarType dtype, const Sizes& sizes) {
  const Tensor rows = t.to(dtype).reshape({sizes.rows, sizes.width});
  return rows.stride(1) == 1 || sizes.width <= 1 ? rows : rows.contiguous();
}

}  // namespace hippodrome::gated_rms_norm_op
