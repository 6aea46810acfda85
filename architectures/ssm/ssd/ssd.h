// SSD, the recurrence of Mamba-2, as LibTorch operators; the equations are in op.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <tuple>

namespace hippodrome {

// Arguments of SSD. Floating tensors may be float32, float64, bfloat16 or float16, with any strides; the fast layout
// has the axes behind L contiguous, as slices of a [B, L, ...] tensor have. Work is done in float64 when x is float64,
// else in float32. On a GPU the matrix products of bfloat16 and float16 inputs (x, B, C and z of one dtype) round states
// and weighed scores to that dtype, for its tensor cores; sums, decays and states from unit to unit stay float32.
struct SsdArguments {
  at::Tensor x;                       // [B, L, H, P]; P <= 1024
  at::Tensor dt;                      // [B, L, H]
  at::Tensor A;                       // [H], usually negative
  at::Tensor B;                       // [B, L, G, N]; head h uses group h / (H / G); N <= 1024
  at::Tensor C;                       // as B
  std::optional<at::Tensor> D;        // [H], the skip
  std::optional<at::Tensor> z;        // [B, L, H, P], the gate
  std::optional<at::Tensor> dt_bias;  // [H]
  bool dt_softplus = false;
  double dt_low = 0.0;            // step sizes are clamped to [dt_low, dt_high]
  std::optional<double> dt_high;  // none: no upper limit
  int64_t chunk = 256;  // steps between two states kept for backward, 1 to 4096: it trades memory for recomputation
  std::optional<at::Tensor> initial_state;  // [B, H, P, N]
  std::optional<at::Tensor> positions;      // int64 [B, L]: -1 padding, 0 starts a sequence, other values continue
};

// Returns y [B, L, H, P] in x's dtype (contiguous) and the last state [B, H, P, N] in the working dtype. Differentiable
// once, in every floating argument. Wrong shapes raise c10::Error.
std::tuple<at::Tensor, at::Tensor> ssd(const SsdArguments& arguments);

// For inference: reads `state` [B, H, P, N] in the place of arguments.initial_state and leaves the last state in it,
// without the copy that costs as much as a token's step. Contiguous, in the working dtype, on the CPU, no gradients.
at::Tensor ssd_in_place(const SsdArguments& arguments, const at::Tensor& state);

// The same by plain loops, forward and backward: slow, the oracle.
std::tuple<at::Tensor, at::Tensor> ssd_reference(const SsdArguments& arguments);

}  // namespace hippodrome
