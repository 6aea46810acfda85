// What the bindings of wkv4 to LibTorch share: op.cpp's for the CPU, cuda_binding.h's for GPUs.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>
#include <c10/core/SymInt.h>
#include <c10/util/Exception.h>

#include <tuple>

#include "core/tensor/op_binding.h"

namespace hippodrome::wkv4_op {

using Outputs = std::tuple<Tensor, Tensor>;
using SavedOutputs = std::tuple<Tensor, Tensor, Tensor>;
using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

// Raises on shapes and dtypes that do not fit; sizes may be symbolic.
inline void check_inputs(const Tensor& w, const Tensor& u, const Tensor& k, const Tensor& v,
                         const OptionalTensor& state, const OptionalTensor& positions) {
  TORCH_CHECK(k.dim() == 3, "wkv4: k must be [B, T, C], but it has ", k.dim(), " axes");
  TORCH_CHECK(v.sym_sizes() == k.sym_sizes(), "wkv4: v must have the shape of k, ", k.sym_sizes(), ", but it is ",
              v.sym_sizes());
  TORCH_CHECK(k.is_floating_point() && v.scalar_type() == k.scalar_type(),
              "wkv4: k and v must have one floating-point dtype, but they are ", k.scalar_type(), " and ",
              v.scalar_type());
  const c10::SymInt channels = k.sym_size(2);
  TORCH_CHECK(w.dim() == 1 && w.sym_size(0) == channels, "wkv4: w must be [C] with C = ", channels, ", but it is ",
              w.sym_sizes());
  TORCH_CHECK(u.dim() == 1 && u.sym_size(0) == channels, "wkv4: u must be [C] with C = ", channels, ", but it is ",
              u.sym_sizes());
  if (given(state)) {
    TORCH_CHECK(state->dim() == 3 && state->sym_size(0) == k.sym_size(0) && state->sym_size(1) == 3 &&
                    state->sym_size(2) == channels,
                "wkv4: state must be [B, 3, C] = [", k.sym_size(0), ", 3, ", channels, "], but it is ",
                state->sym_sizes());
  }
  if (given(positions)) {
    TORCH_CHECK(positions->scalar_type() == at::kLong && positions->dim() == 2 &&
                    positions->sym_size(0) == k.sym_size(0) && positions->sym_size(1) == k.sym_size(1),
                "wkv4: positions must be int64 [B, T] = [", k.sym_size(0), ", ", k.sym_size(1), "], but they are ",
                positions->scalar_type(), " ", positions->sym_sizes());
  }
}

}  // namespace hippodrome::wkv4_op
