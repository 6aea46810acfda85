#pragma once

#include <vector>

#include "core/tensor/tensor.h"

namespace hippodrome {

// T tokens of which each goes to K of n experts make T K slots. A grouping brings the slots into the order of their experts,
// and within an expert into that of the tokens, so that every expert's slots are one block of rows.
struct Grouping {
  std::vector<int64_t> counts;  // [n], slots of each expert
  Tensor slots;                 // [T K] int64: which slot (token · K + rank) each grouped row is
  Tensor tokens;                // [T K] int64: whose token
  Tensor rows;                  // [T K] int64: the inverse of `slots`, at which row each slot stands
};

// experts [T, K] int64, on any device; their numbers are read on the host.
Grouping group_by_expert(const Tensor& experts, int64_t count);

// x [T, D] -> [T K, D]: every slot its token's row, in grouped order.
Tensor dispatch(const Tensor& x, const Grouping& grouping);

// The way back: y [T K, E] in grouped order, weights [T, K] -> [T, E], Σ_k weights[t, k] · the row of slot (t, k), summed in
// the order of ranks, so that results and gradients do not depend on who finished first.
Tensor combine(const Tensor& y, const Tensor& weights, const Grouping& grouping);

}  // namespace hippodrome
