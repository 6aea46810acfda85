// What the bindings of additive attention for the CPU (op.cpp) and for CUDA (cuda_binding.h) share.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <tuple>

#include "core/tensor/op_binding.h"

namespace hippodrome::additive_attention_op {

using Outputs = std::tuple<Tensor, Tensor>;                    // context, lse
using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;  // of queries, keys, v and values, in the compute dtype

inline void check(const Tensor& q, const Tensor& k, const Tensor& v, const OptionalTensor& positions) {
  const auto dtype = q.scalar_type();
  TORCH_CHECK(dtype == at::kFloat || dtype == at::kDouble || dtype == at::kBFloat16 || dtype == at::kHalf,
              "additive_attention: queries must be float32, float64, bfloat16 or float16, not ", dtype);
  TORCH_CHECK(k.scalar_type() == dtype && v.scalar_type() == dtype,
              "additive_attention: queries, keys and v must have one dtype, not ", dtype, ", ", k.scalar_type(),
              " and ", v.scalar_type());
  TORCH_CHECK(q.dim() == 3 && k.dim() == 3 && q.sym_size(0) == k.sym_size(0) && q.sym_size(2) == k.sym_size(2),
              "additive_attention: queries must be [B, Lq, H] and keys [B, S, H], got ", q.sym_sizes(), " and ",
              k.sym_sizes());
  TORCH_CHECK(v.dim() == 1 && v.sym_size(0) == q.sym_size(2), "additive_attention: v must be [H] = [", q.sym_size(2),
              "], got ", v.sym_sizes());
  TORCH_CHECK(!given(positions) ||
                  (positions->scalar_type() == at::kLong && has_shape(*positions, {k.sym_size(0), k.sym_size(1)})),
              "additive_attention: positions must be int64 [B, S] = [", k.sym_size(0), ", ", k.sym_size(1), "]");
}
inline void check(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& values,
                  const OptionalTensor& positions) {
  check(q, k, v, positions);
  TORCH_CHECK(values.scalar_type() == q.scalar_type(),
              "additive_attention: queries and values must have one dtype, not ", q.scalar_type(), " and ",
              values.scalar_type());
  TORCH_CHECK(values.dim() == 3 && values.sym_size(0) == k.sym_size(0) && values.sym_size(1) == k.sym_size(1),
              "additive_attention: values must be [B, S, M] = [", k.sym_size(0), ", ", k.sym_size(1), ", M], got ",
              values.sym_sizes());
}

inline Tensor make_lse(const Tensor& q) {
  return at::empty_symint({q.sym_size(0), q.sym_size(1)}, q.options().dtype(compute_dtype(q)));
}

}  // namespace hippodrome::additive_attention_op
