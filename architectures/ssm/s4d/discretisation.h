#pragma once

#include <string>
#include <vector>

#include "core/tensor/tensor.h"

namespace hippodrome {

// Imaginary and negated real parts of the initial poles A_n of S4D, n < states / 2 (Gu, Gupta, Goel & Ré 2022, section
// 4):
//   "lin"   -½ + iπn                                 "inv"   -½ + i(N/π)(N/(2n+1) - 1)
//   "legs"  eigenvalues of the normal part of HiPPO-LegS      "real"  -(n+1)
struct InitialPoles {
  std::vector<double> decay;      // -Re A
  std::vector<double> frequency;  // Im A
};
InitialPoles initial_poles(const std::string& name, int64_t states);

// A diagonal system x' = A x + u in discrete time, x_t = a x_{t-1} + b u_t; each [H, N/2], float64.
struct DiscreteSystem {
  Tensor a_real, a_imag;
  Tensor b_real, b_imag;
  Tensor log_a_real, log_a_imag;  // a = e^(these): powers without products
};
// log_dt [H], log_decay [H, N/2] (A = -e^log_decay + i frequency), frequency [H, N/2]. In float64 whatever the inputs:
// in float32 (e^{ΔA} - 1) / A loses four digits at Δ = 10⁻³.
//   zoh:       a = e^{ΔA},  b = (e^{ΔA} - 1) / A           bilinear:  a = (1 + ΔA/2) / (1 - ΔA/2),  b = Δ / (1 - ΔA/2)
DiscreteSystem discretise(const Tensor& log_dt, const Tensor& log_decay, const Tensor& frequency, bool bilinear);

}  // namespace hippodrome
