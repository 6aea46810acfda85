// Memory for token lists (token_list.h).
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "architectures/ssm/token_list.h"

namespace hippodrome::cuda {

// A list of `positions` ([B, L] int64 and contiguous, or undefined), its memory in `owner`.
inline TokenList token_list(const at::Tensor& positions, int64_t batch, int64_t length, at::Tensor& owner) {
  TokenList list;
  list.batch = batch, list.length = length;
  if (!positions.defined() || batch == 0) return list;
  list.positions = positions.const_data_ptr<int64_t>();
  if (must_list(list)) {
    owner = at::empty({batch * (length + 1)}, positions.options());
    list.entries = owner.mutable_data_ptr<int64_t>();
    list.counts = list.entries + batch * length;
  }
  return list;
}

}  // namespace hippodrome::cuda
