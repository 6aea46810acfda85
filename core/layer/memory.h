#pragma once

#include "core/tensor/tensor.h"

namespace hippodrome {

// What an encoder made of S source tokens, M wide, for layers that attend to it.
struct Memory {
  Tensor values;  // [B, S, M] in the compute dtype; 0 at padding
  Tensor
      positions;  // [B, S] int64: the source token's position; -1 is padding, which stands behind the tokens of its row
  bool ragged = false;  // whether there is padding, known on the host

  int64_t rows() const { return values.size(0); }
  int64_t length() const { return values.size(1); }
  int64_t width() const { return values.size(2); }
};

}  // namespace hippodrome
