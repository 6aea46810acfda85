#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor/tensor.h"

namespace hippodrome {

// [B, L] int64 on the CPU: each row, and `padding` behind it. L must be no less than the longest row.
Tensor padded_to(const std::vector<std::vector<int64_t>>& rows, int64_t length, int64_t padding);

// Rows of ids of different lengths side by side, padded at the right to the longest with the id that ends a sequence.
struct PaddedRows {
  Tensor ids;           // [B, L] int64, CPU
  Tensor positions;     // [B, L] int64, CPU: 0, 1, …; −1 at padding
  bool ragged = false;  // whether there is padding
};
PaddedRows padded_rows(const std::vector<std::vector<int64_t>>& rows);

}  // namespace hippodrome
