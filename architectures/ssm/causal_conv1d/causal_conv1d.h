// C++ entry to the op `hippodrome::causal_conv1d` (equations and the rules for padding: op.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string_view>

namespace hippodrome {

struct CausalConv1dResult {
  at::Tensor y;            // [B, D, L], dtype of x; memory is [B, L, D]
  at::Tensor final_state;  // [B, D, K-1], the last K-1 inputs, oldest first; float32, or float64 for float64 inputs
};

// x [B, D, L], weight [D, K] with K in 1..16, bias [D], activation "" or "silu", initial_state [B, D, K-1] (none:
// zeros), positions [B, L] int64: -1 padding, 0 starts a sequence, none: one run per row. 16-bit floats are computed in
// float32. Differentiable once to x, weight, bias and initial_state. Fast where channels are adjacent in memory, e.g.
// x = matrix.slice(-1, 0, D).transpose(1, 2) of a [B, L, 2 D] matrix; other layouts are copied.
// Throws c10::Error (TORCH_CHECK) on shapes, dtypes or activations that do not fit.
CausalConv1dResult causal_conv1d(const at::Tensor& x, const at::Tensor& weight,
                                 const std::optional<at::Tensor>& bias = std::nullopt, std::string_view activation = "",
                                 const std::optional<at::Tensor>& initial_state = std::nullopt,
                                 const std::optional<at::Tensor>& positions = std::nullopt);

// For inference: returns y, and `state` [B, D, K-1], contiguous and of the final state's dtype, takes the place of the
// initial state and becomes the final one, at the same address. On a GPU one kernel for a single token. No gradients.
at::Tensor causal_conv1d_in_place(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                                  std::string_view activation, const at::Tensor& state,
                                  const std::optional<at::Tensor>& positions = std::nullopt);

// The same by plain loops, forward and backward.
CausalConv1dResult causal_conv1d_reference(const at::Tensor& x, const at::Tensor& weight,
                                           const std::optional<at::Tensor>& bias = std::nullopt,
                                           std::string_view activation = "",
                                           const std::optional<at::Tensor>& initial_state = std::nullopt,
                                           const std::optional<at::Tensor>& positions = std::nullopt);

}  // namespace hippodrome
