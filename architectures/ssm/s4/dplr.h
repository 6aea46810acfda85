#pragma once

#include "core/tensor/tensor.h"

// State-space models whose matrix is diagonal plus low rank, A = Λ - P P*, per channel and with one of each conjugate
// pair kept (Gu, Goel & Ré 2021): float64 and complex128, differentiable once.
namespace hippodrome {

struct DplrSystem {
  Tensor dt;      // [H] real: Δ
  Tensor lambda;  // [H, N/2]
  Tensor B, C;    // [H, N/2]
  Tensor P;       // [H, R, N/2], R ≤ 2
};

// Its bilinear discretisation as a recurrence of O(N) a step (architectures/ssm/dplr_scan/op.h): x_t = Ā x_{t-1} + b
// u_t, v_t = 2 Re Σ c x_t, with Ā x = a∘x + Σ_r w_r 2 Re Σ q_r x. By Woodbury's identity, with D = (1 - ΔΛ/2)⁻¹ and M =
// (1 + Δ/2 P*DP)⁻¹, (1 - ΔA/2)⁻¹ = D - Δ/2 DP M P*D and Ā is twice that less 1.
struct DplrRecurrence {
  Tensor a, b, c;  // [H, N/2]
  Tensor q, w;     // [H, R, N/2]
};
DplrRecurrence bilinear(const DplrSystem& system);

// The same recurrence with Ā diagonalised, of N modes z without a low-rank part: v_t = 2 Re Σ c z_t. An error where the
// eigenvectors have a condition number beyond 10⁸: at HiPPO-LegS it grows about sixfold with every state.
struct DiagonalRecurrence {
  Tensor a, b, c;     // [H, N]
  Tensor from_state;  // [H, N, N]: z of x and its conjugates
  Tensor to_state;    // [H, N/2, N]: x of z
};
DiagonalRecurrence diagonalised(const DplrRecurrence& recurrence);

// The convolution kernel K_l = 2 Re C Ā^l b, l < length, as [H, length] float64, through its transform at the roots of
// unity ω_k (algorithm 1 and appendix C.3 of the paper):
//   K̂(ω) = C̃ (1 - Ā ω)⁻¹ b,   C̃ = C (1 - Ā^L),
// which Woodbury's identity makes of Cauchy sums (architectures/ssm/cauchy/op.h), R + 1 squared of them. C̃ is derived
// for the length in use, by the transposed recurrence, so no length is baked into C.
Tensor dplr_kernel(const DplrSystem& system, int64_t length);

}  // namespace hippodrome
