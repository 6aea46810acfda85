// The registered ops hippodrome::additive_attention and hippodrome::additive_attention_weights, called from C++.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace hippodrome {

// queries [B, Lq, H] and keys [B, S, H], both already projected, v [H], values [B, S, M], all of one dtype, positions
// int64 [B, S] of the keys or none (-1: padding, not read) → context [B, Lq, M] in that dtype and the logarithms of the
// softmax's sums, [B, Lq] in float32 or, for float64, float64; both are 0 for rows without a key. float32, float64,
// bfloat16 or float16, on the CPU or a GPU. Memory besides the results: on the CPU a copy of the keys, and in backward
// at most 16 Lq H numbers more; on a GPU partial sums where rows are few, of at most 1024 blocks. Hypotheses of one
// source are queries of one row. Differentiable once in queries, keys, v and values. `reference` takes the plain loops,
// which are the CPU's. Equations: op.h.
std::tuple<at::Tensor, at::Tensor> additive_attention(const at::Tensor& queries, const at::Tensor& keys,
                                                      const at::Tensor& v, const at::Tensor& values,
                                                      const std::optional<at::Tensor>& positions = std::nullopt,
                                                      bool reference = false);

// The weights p [B, Lq, S] of the above, for those who look at them: 0 at padding, 0 in rows without a key. No
// gradient.
at::Tensor additive_attention_weights(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& v,
                                      const std::optional<at::Tensor>& positions = std::nullopt,
                                      bool reference = false);

}  // namespace hippodrome
