#include "core/data/padded_rows.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <numeric>

#include "core/data/pairs.h"

namespace hippodrome {

Tensor padded_to(const std::vector<std::vector<int64_t>>& rows, int64_t length, int64_t padding) {
  Tensor tensor = at::empty({static_cast<int64_t>(rows.size()), length}, at::kLong);
  int64_t* out = tensor.mutable_data_ptr<int64_t>();
  for (const std::vector<int64_t>& row : rows) {
    std::fill(std::copy(row.begin(), row.end(), out), out + length, padding);
    out += length;
  }
  return tensor;
}

PaddedRows padded_rows(const std::vector<std::vector<int64_t>>& rows) {
  PaddedRows result;
  size_t longest = 0;
  std::vector<std::vector<int64_t>> positions(rows.size());
  for (size_t row = 0; row < rows.size(); ++row) {
    result.ragged |= row > 0 && rows[row].size() != rows[row - 1].size();
    longest = std::max(longest, rows[row].size());
    positions[row].resize(rows[row].size());
    std::iota(positions[row].begin(), positions[row].end(), 0);
  }
  result.ids = padded_to(rows, static_cast<int64_t>(longest), kEnd);
  result.positions = padded_to(positions, static_cast<int64_t>(longest), -1);
  return result;
}

}  // namespace hippodrome
