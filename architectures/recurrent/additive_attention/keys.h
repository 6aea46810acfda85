// The keys of additive attention as its kernels read them, made of tensors: what both ops that attend additively begin
// with.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "architectures/recurrent/additive_attention/op.h"

namespace hippodrome {

// positions int64 [rows, keys] or none.
inline std::vector<VisibleKeys> visible_keys(const std::optional<at::Tensor>& positions_in, int64_t rows,
                                             int64_t keys) {
  const bool given = positions_in.has_value() && positions_in->defined();
  const at::Tensor positions = given ? positions_in->contiguous() : at::Tensor();
  std::vector<VisibleKeys> visible;
  visible.reserve(static_cast<size_t>(rows));
  for (int64_t b = 0; b < rows; ++b) {
    visible.emplace_back(given ? positions.const_data_ptr<int64_t>() + b * keys : nullptr, keys);
  }
  return visible;
}

// e^{2k} of contiguous keys [rows, S, H]; notes in `visible` the magnitude of each row.
template <class T>
at::Tensor key_exponentials(const at::Tensor& keys, std::vector<VisibleKeys>& visible) {
  const int64_t count = keys.size(1), size = keys.size(2), all = keys.size(0) * count;
  at::Tensor exponentials = at::empty_like(keys);
  std::vector<Magnitude> magnitudes(static_cast<size_t>(all));
  const T* from = keys.const_data_ptr<T>();
  T* to = exponentials.mutable_data_ptr<T>();
  at::parallel_for(0, all, std::max<int64_t>(1, 50'000 / std::max<int64_t>(1, size)), [&](int64_t begin, int64_t end) {
    additive_attention_exponentials(from, size, begin, end, to, magnitudes.data());
  });
  for (size_t b = 0; b < visible.size(); ++b) {
    VisibleKeys& row = visible[b];
    row.magnitude = Magnitude::kSmall;
    for (int64_t j = 0; j < row.count(); ++j) {
      row.magnitude =
          std::min(row.magnitude, magnitudes[b * static_cast<size_t>(count) + static_cast<size_t>(row.column(j))]);
    }
  }
  return exponentials;
}

}  // namespace hippodrome
