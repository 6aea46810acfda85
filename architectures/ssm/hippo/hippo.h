#pragma once

#include <string>

#include "core/tensor/tensor.h"

// Matrices that make a state remember: the HiPPO systems x' = A x + B u (Gu, Dao, Ermon, Rudra & Ré 2020), their form
// as a normal matrix minus a low rank (Gu, Goel & Ré 2021, theorem 1) and their discretisations. All float64; systems
// and their forms are made on the CPU, discretisations where their inputs are.
namespace hippodrome {

// A [N, N], B [N] and the correction P [r, N] that makes A + PᵀP normal: -a I plus a skew matrix.
struct HippoSystem {
  Tensor A, B, P;
};
// "legs"  scaled Legendre, r = 1:      A_nk = -√((2n+1)(2k+1)) below the diagonal, -(n+1) on it; B_n = √(2n+1);
//                                      P_n = √(n+½)
// "legt"  translated Legendre, r = 2:  A_nk = -½ √((2n+1)(2k+1)), times (-1)^(n-k) above the diagonal; B_n = ½ √(2n+1);
//                                      P holds √(n+½) at odd n in one row, at even n in the other
// "fout"  truncated Fourier, r = 1:    A = S - B Bᵀ with S turning the pair (2j, 2j+1) at frequency πj; B = 1, 0, √2,
// 0,
//                                      √2, 0, …; P = B
// As the authors' repository has them: LegT halved for the timescale, FouT of rank 1. N must be even for "fout".
HippoSystem hippo(const std::string& name, int64_t states);

// A = V (Λ - P̃ P̃*) V*, with V unitary, of which one of each conjugate pair is kept: Λ_n = -decay_n + i frequency_n with
// frequency ≥ 0, ascending.
struct NormalPlusLowRank {
  Tensor decay, frequency;  // [N/2]
  Tensor B;                 // [N/2] complex: V* B
  Tensor P;                 // [r, N/2] complex: V* P
  Tensor V;                 // [N, N/2] complex; the first component of each column that is not 0 is real and positive
};
// By a Hermitian eigen-solve of -i(A + PᵀP). N must be even. An eigenvalue of 0 (FouT's) belongs to the first two rows.
NormalPlusLowRank normal_plus_low_rank(const HippoSystem& system);

// x_t = A x_{t-1} + B u_t: A [..., N, N], B [..., N].
struct DiscreteMatrices {
  Tensor A, B;
};
// A_d = (I - αΔA)⁻¹ (I + (1-α)ΔA), B_d = (I - αΔA)⁻¹ ΔB with dt [...] that A [..., N, N] and B [..., N] are broadcast
// to: α = ½ bilinear, 0 Euler, 1 backward Euler. Differentiable.
DiscreteMatrices generalised_bilinear(const Tensor& A, const Tensor& B, const Tensor& dt, double alpha = 0.5);
// A_d = e^{ΔA}, B_d = A⁻¹ (e^{ΔA} - I) B, by the exponential of the augmented matrix, so that A may be singular.
DiscreteMatrices zero_order_hold(const Tensor& A, const Tensor& B, const Tensor& dt);

}  // namespace hippodrome
