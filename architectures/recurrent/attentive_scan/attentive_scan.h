// The registered op hippodrome::attentive_scan, called from C++.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <tuple>

namespace hippodrome {

// What attentive_scan computes with: float32, float64, bfloat16 or float16, on the CPU or a GPU. G is 3 for "gru"
// (gates in the order r, z, n) and 4 for "lstm" (i, f, g, o).
struct AttentiveScanInputs {
  std::string cell;      // "gru" or "lstm"
  at::Tensor gates;      // [B, L, G n]: W y_{i-1} + b for all target tokens
  at::Tensor weight_hh;  // [G n, n]: U; those of the gru's n act on r∘s
  at::Tensor weight_c;   // [G n, M]: C, on the context
  at::Tensor weight_q;   // [A, n]: W_a
  at::Tensor keys;       // [B', S, A]: U_a h, B' a divisor of B: B / B' rows one after the other read one source
  at::Tensor v;          // [A]
  at::Tensor values;     // [B', S, M]: h
  std::optional<at::Tensor> s0 = std::nullopt;                // [B, n]; none: zeros
  std::optional<at::Tensor> c0 = std::nullopt;                // [B, n], lstm alone; none: zeros
  std::optional<at::Tensor> source_positions = std::nullopt;  // int64 [B', S]: -1 is padding, never attended to
  std::optional<at::Tensor> positions = std::nullopt;         // int64 [B, L]: -1 is padding, 0 zeroes the state first
};

// → the new states s [B, L, n] and the contexts [B, L, M] that went into them, in the dtype of gates and 0 at padding;
// the last s [B, n], and the last cell [B, n] (gru: [0]), float32 or, for float64, float64, as all of the computation.
// A later call goes on from these. The state that the query of token i was made of is s of token i - 1 (s0 at the
// first). Differentiable once in gates, the three weights, keys, v, values, s0 and c0. Backward keeps O(L (G n + n + A
// + M)) numbers a row and no attention weights. `reference` takes the plain loops, which are the CPU's. Equations:
// op.h.
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> attentive_scan(const AttentiveScanInputs& inputs,
                                                                          bool reference = false);

}  // namespace hippodrome
