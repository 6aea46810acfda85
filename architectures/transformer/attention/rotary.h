#pragma once

#include "core/tensor/tensor.h"

namespace hippodrome {

// Which entries of a head form the pairs that are rotated: (i, i + hd/2), as Hugging Face's weights, or (2i, 2i + 1),
// as the paper's and Meta's.
enum class RotaryLayout { kHalf, kInterleaved };

// Cosines and sines of position · base^(-2i/hd) (Su et al. 2021, "RoFormer", equation 15), [B or 1, L, hd] as cosines
// then sines, float32 or, for float64 activations, float64. positions [B, L] int64; rows that share their memory are
// computed once. Angles are taken in float64: in float32 they lose a digit per tenfold position.
Tensor rotary_table(const Tensor& positions, int64_t head_size, double base, at::ScalarType activations);

// x [B, L, H, hd] rotated by the table of `rotary_table`; contiguous, in x's dtype. Differentiable any number of times,
// in x.
Tensor rotate(const Tensor& x, const Tensor& table, RotaryLayout layout);

}  // namespace hippodrome
