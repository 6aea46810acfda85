// Cauchy sums at the nodes of a discrete Fourier transform: the kernel of S4 in the frequency domain (Gu, Goel & Ré
// 2021, appendix C.3). Per channel, with N poles λ_n that stand for themselves and their conjugates, M rows of weights
// v and the nodes ω_k = e^{-2πik/L}, k ≤ L/2, of a real sequence of length L:
//
//   S_m(k) = Σ_n v_{m,n} / (i sin(πk/L) - cos(πk/L) λ_n) + v*_{m,n} / (i sin(πk/L) - cos(πk/L) λ*_n)
//
// The paper's 1 / (z_k - Λ_n), z = 2/Δ (1-ω)/(1+ω), is Δ/2 cos(πk/L) times a term of this with λ = ΔΛ/2; multiplied out
// by 1 + ω it has no pole at ω = -1, and turned by e^{iπk/L} both of its parts are real. All rows share the resolvents.
// Adjoint, with R, R' the two resolvents, U_n = Σ_m ∂S*_m v_{m,n} and U'_n = Σ_m ∂S*_m v*_{m,n}:
//
//   ∂Re v = Σ_k Re(∂S* (R + R')),   ∂Im v = Σ_k Re(i ∂S* (R - R')),
//   ∂Re λ = Σ_k cos(πk/L) Re(U R² + U' R'²),   ∂Im λ = -Σ_k cos(πk/L) Im(U R² - U' R'²)
#pragma once

#include <cstdint>

namespace hippodrome {

inline int64_t cauchy_nodes(int64_t length) { return length / 2 + 1; }
// The tables of sines and cosines are padded to whole vectors of any width with the node of k = L/2, sine 1 and cosine
// 0.
inline int64_t cauchy_padded_nodes(int64_t length) { return (cauchy_nodes(length) + 15) / 16 * 16; }

// Complex numbers are pairs of reals, real before imaginary.
template <class T>
struct CauchyForward {
  int64_t channels, rows, states, nodes, padded_nodes;  // H, M, N, K, K rounded up to 16
  const T *sine, *cosine;                               // [padded_nodes]
  const T* v;                                           // [H, M, N, 2]
  const T* lambda;                                      // [H, N, 2]
  T* sums;                                              // [H, M, K, 2]
};

template <class T>
struct CauchyBackward {
  int64_t channels, rows, states, nodes, padded_nodes;
  const T *sine, *cosine;
  const T* v;
  const T* lambda;
  const T* grad_sums;  // [H, M, K, 2]
  T* grad_v;           // [H, M, N, 2]
  T* grad_lambda;      // [H, N, 2]
};

// Over channels [begin, end).
template <class T>
void cauchy_forward(const CauchyForward<T>& p, int64_t begin, int64_t end);
template <class T>
void cauchy_backward(const CauchyBackward<T>& p, int64_t begin, int64_t end);

}  // namespace hippodrome
