// From LibTorch tensors to the kernels' parameters: checks and allocation. Shared by the CPU and the CUDA operators.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/ScalarType.h>
#include <c10/core/SymInt.h>
#include <c10/util/Exception.h>

#include <tuple>

#include "core/tensor/op_binding.h"

namespace hippodrome::cauchy_op {

using Gradients = std::tuple<Tensor, Tensor>;

inline void check(const Tensor& v, const Tensor& lambda, const c10::SymInt& length) {
  TORCH_CHECK(
      v.scalar_type() == lambda.scalar_type() && (v.scalar_type() == at::kFloat || v.scalar_type() == at::kDouble),
      "cauchy: v and lambda must both be float32 or both float64, not ", v.scalar_type(), " and ",
      lambda.scalar_type());
  TORCH_CHECK(v.dim() == 4 && v.sym_size(3) == 2, "cauchy: v must be [H, M, N, 2], got ", v.sym_sizes());
  TORCH_CHECK(lambda.dim() == 3 && lambda.sym_size(0) == v.sym_size(0) && lambda.sym_size(1) == v.sym_size(2) &&
                  lambda.sym_size(2) == 2,
              "cauchy: lambda must be [H, N, 2] = [", v.sym_size(0), ", ", v.sym_size(2), ", 2], got ",
              lambda.sym_sizes());
  TORCH_CHECK(length >= 1, "cauchy: the length must be at least 1, got ", length);
}

// [H, M, K, 2]
inline Tensor make_sums(const Tensor& v, const c10::SymInt& length) {
  return at::empty_symint({v.sym_size(0), v.sym_size(1), length / 2 + 1, c10::SymInt(2)}, v.options());
}

}  // namespace hippodrome::cauchy_op
