// The selective scan as LibTorch operators; the equations are in op.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <tuple>

namespace hippodrome {

// Arguments of the selective scan. Floating tensors may be float32, float64, bfloat16 or float16, with any strides; the
// fast layout has the channels contiguous (u = transpose(1, 2) of a contiguous [B, L, D] tensor, B likewise of [B, L,
// N]). Work is done in float64 when u is float64, else in float32.
struct SelectiveScanArguments {
  at::Tensor u;                          // [B, D, L]
  at::Tensor delta;                      // [B, D, L]
  at::Tensor A;                          // [D, N], usually negative; N <= 256
  at::Tensor B;                          // [B, N, L] or [B, G, N, L]; channel d uses group d / (D / G)
  at::Tensor C;                          // as B
  std::optional<at::Tensor> D;           // [D], the skip
  std::optional<at::Tensor> z;           // [B, D, L], the gate
  std::optional<at::Tensor> delta_bias;  // [D]
  bool delta_softplus = false;
  // A, B, C and the states hold complex numbers: N is even, the real parts come first, then the imaginary ones, and the
  // output is twice the real part.
  bool complex = false;
  bool zero_order_hold = false;  // of B, too: (exp(delta A) - 1) / A in the place of delta; A must not be zero
  std::optional<at::Tensor> initial_state;  // [B, D, N]
  std::optional<at::Tensor> positions;      // int64 [B, L]: -1 padding, 0 starts a sequence, other values continue
};

// Returns y [B, D, L] in u's dtype (channels contiguous) and the last state [B, D, N] in the working dtype.
// Differentiable once, in every floating argument. Wrong shapes raise c10::Error.
std::tuple<at::Tensor, at::Tensor> selective_scan(const SelectiveScanArguments& arguments);

// For inference: reads `state` [B, D, N] in the place of arguments.initial_state and leaves the last state in it.
// Contiguous, in the working dtype, no gradients. On devices other than the CPU the last state is copied into it.
at::Tensor selective_scan_in_place(const SelectiveScanArguments& arguments, const at::Tensor& state);

// The same by plain loops, forward and backward: slow, the oracle.
std::tuple<at::Tensor, at::Tensor> selective_scan_reference(const SelectiveScanArguments& arguments);

}  // namespace hippodrome
