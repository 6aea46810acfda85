#pragma once

#include <string>
#include <vector>

#include "core/tensor/tensor.h"

namespace hippodrome {

// How frequencies are changed for contexts longer than those of the first training. "linear" divides all by `factor`
// (Chen et al. 2023, "Position Interpolation"). "llama3" is Llama 3.1's: waves that fit into the original context more
// than `high` times stay, those that fit less than `low` times are divided by `factor`, and those between go over from
// one to the other linearly in the number of times.
struct RotaryScaling {
  std::string kind = "none";  // none | linear | llama3
  double factor = 1.0;
  double low = 1.0;
  double high = 4.0;
  double original_length = 8192.0;  // tokens
};

// base^(-2i/hd) for i < hd/2 (Su et al. 2021, "RoFormer", equation 15), scaled; radians per position.
std::vector<double> rotary_frequencies(int64_t head_size, double base, const RotaryScaling& scaling = {});

// Which entries of a head form the pairs that are rotated: (i, i + hd/2), as Hugging Face's weights, or (2i, 2i + 1),
// as the paper's and Meta's.
enum class RotaryLayout { kHalf, kInterleaved };

// Cosines and sines of position · frequency, [B or 1, L, hd] as cosines then sines, float32 or, for float64
// activations, float64. positions [B, L] int64; rows that share their memory are computed once. frequencies [hd / 2]
// float64, on the same device. Angles are taken in float64: in float32 they lose a digit per tenfold position.
Tensor rotary_table(const Tensor& positions, const Tensor& frequencies, at::ScalarType activations);

// x [B, L, H, hd] rotated by the table of `rotary_table`; contiguous, in x's dtype. Differentiable any number of times,
// in x.
Tensor rotate(const Tensor& x, const Tensor& table, RotaryLayout layout);

struct QueriesKeysValues {
  Tensor q, k, v;  // [B, L, H, hd], [B, L, G, hd], [B, L, G, hd]
};

// A projection [B, L, (H + 2G) hd] as queries and keys, rotated as above, and values, as they are. All three gradients go
// back in one pass. Differentiable any number of times, in `projected`.
QueriesKeysValues rotate_heads(const Tensor& projected, int64_t heads, int64_t kv_heads, const Tensor& table,
                               RotaryLayout layout);

}  // namespace hippodrome
