// C++ entry to the op `hippodrome::wkv4` (equations, state and gradient convention: op.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace hippodrome {

struct Wkv4Result {
  at::Tensor y;           // [B, T, C], dtype of k
  at::Tensor last_state;  // [B, 3, C] = numerator, denominator, maximum; float32, or float64 for float64 inputs
};

// w = -exp(time_decay) [C], u = time_first [C], k, v [B, T, C]; all float32, float64 or a 16-bit float (computed in
// float32). state [B, 3, C] as returned; none: fresh (0, 0, -1e38). positions [B, T] int64: -1 padding, 0 starts a
// sequence, none: one run per row. Differentiable once to w, u, k, v and state. Fast where k and v are contiguous;
// others are copied. Throws c10::Error (TORCH_CHECK) on shapes or dtypes that do not fit.
Wkv4Result wkv4(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v,
                const std::optional<at::Tensor>& state = std::nullopt,
                const std::optional<at::Tensor>& positions = std::nullopt);

// The same by plain loops, forward and backward.
Wkv4Result wkv4_reference(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v,
                          const std::optional<at::Tensor>& state = std::nullopt,
                          const std::optional<at::Tensor>& positions = std::nullopt);

}  // namespace hippodrome
