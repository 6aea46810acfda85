#pragma once

#include "core/layer/parameters.h"

namespace hippodrome {

// Recurrent weights [gates · hidden, hidden], each gate's matrix orthogonal by itself (Bahdanau et al. 2015, appendix B.1).
inline Initialiser orthogonal_gates(int64_t gates, int64_t hidden) {
  return [gates, hidden](Tensor& value, RandomStream stream) {
    for (int64_t gate = 0; gate < gates; ++gate) {
      Tensor matrix = value.narrow(0, gate * hidden, hidden);
      initialise::orthogonal(1.0)(matrix, stream.fork(static_cast<uint64_t>(gate)));
    }
  };
}

}  // namespace hippodrome
