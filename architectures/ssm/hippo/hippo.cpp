#include "architectures/ssm/hippo/hippo.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/complex.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_matrix_exp.h>
#include <ATen/ops/linalg_solve_ex.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>
#include <numbers>
#include <tuple>

namespace hippodrome {
namespace hippo_detail {
namespace {

// √(2n+1), the norm of the n-th Legendre polynomial.
double norm(int64_t n) { return std::sqrt(static_cast<double>(2 * n + 1)); }

HippoSystem zeros(int64_t states, int64_t rank) {
  return {at::zeros({states, states}, at::kDouble), at::zeros({states}, at::kDouble),
          at::zeros({rank, states}, at::kDouble)};
}

HippoSystem scaled_legendre(int64_t states) {
  HippoSystem system = zeros(states, 1);
  auto *A = system.A.mutable_data_ptr<double>(), *B = system.B.mutable_data_ptr<double>(),
       *P = system.P.mutable_data_ptr<double>();
  for (int64_t n = 0; n < states; ++n) {
    for (int64_t k = 0; k < n; ++k) A[n * states + k] = -norm(n) * norm(k);
    A[n * states + n] = -static_cast<double>(n + 1);
    B[n] = norm(n);
    P[n] = norm(n) * std::numbers::sqrt2 / 2.0;
  }
  return system;
}

HippoSystem translated_legendre(int64_t states) {
  HippoSystem system = zeros(states, 2);
  auto *A = system.A.mutable_data_ptr<double>(), *B = system.B.mutable_data_ptr<double>(),
       *P = system.P.mutable_data_ptr<double>();
  for (int64_t n = 0; n < states; ++n) {
    for (int64_t k = 0; k < states; ++k) {
      const double sign = k > n && (k - n) % 2 == 1 ? 1.0 : -1.0;
      A[n * states + k] = 0.5 * sign * norm(n) * norm(k);
    }
    B[n] = 0.5 * norm(n);
    P[(n % 2 == 1 ? 0 : 1) * states + n] = norm(n) * std::numbers::sqrt2 / 2.0;
  }
  return system;
}

HippoSystem truncated_fourier(int64_t states) {
  HippoSystem system = zeros(states, 1);
  auto *A = system.A.mutable_data_ptr<double>(), *B = system.B.mutable_data_ptr<double>();
  for (int64_t n = 0; n < states; n += 2) B[n] = n == 0 ? 1.0 : std::numbers::sqrt2;
  for (int64_t n = 0; n < states; ++n) {
    for (int64_t k = 0; k < states; ++k) A[n * states + k] = -B[n] * B[k];
  }
  for (int64_t n = 0; n < states; n += 2) {
    const double turn = std::numbers::pi * static_cast<double>(n / 2);
    A[n * states + n + 1] -= turn;
    A[(n + 1) * states + n] += turn;
  }
  system.P.copy_(system.B.unsqueeze(0));
  return system;
}

// Turns each column so that its first component that is not 0 is real and positive.
void fix_phases(Tensor& V) {
  auto* element = V.mutable_data_ptr<c10::complex<double>>();
  const int64_t rows = V.size(0), columns = V.size(1);
  for (int64_t column = 0; column < columns; ++column) {
    int64_t row = 0;
    while (row + 1 < rows && std::abs(element[row * columns + column]) < 1e-9) ++row;
    const c10::complex<double> first = element[row * columns + column];
    const c10::complex<double> turn = std::conj(first) / std::abs(first);
    for (row = 0; row < rows; ++row) element[row * columns + column] *= turn;
  }
}

// dt with two axes behind its own, and dt A.
Tensor times(const Tensor& dt, const Tensor& A) { return dt.unsqueeze(-1).unsqueeze(-1).mul(A); }

}  // namespace
}  // namespace hippo_detail

HippoSystem hippo(const std::string& name, int64_t states) {
  TORCH_CHECK(name == "legs" || name == "legt" || (name == "fout" && states % 2 == 0), "there is no HiPPO system \"",
              name, "\" of ", states, " states");
  if (name == "legs") return hippo_detail::scaled_legendre(states);
  if (name == "legt") return hippo_detail::translated_legendre(states);
  return hippo_detail::truncated_fourier(states);
}

NormalPlusLowRank normal_plus_low_rank(const HippoSystem& system) {
  const int64_t states = system.A.size(0), pairs = states / 2;
  const Tensor normal = system.A.add(system.P.t().mm(system.P));
  // -i times the skew part is Hermitian; its eigenvalues come in pairs ±ω, ascending.
  const Tensor skew = normal.sub(normal.t()).mul(0.5);
  const auto [values, vectors] = at::linalg_eigh(at::complex(at::zeros_like(skew), skew.neg()));
  NormalPlusLowRank result;
  result.decay = normal.diagonal().mean().neg().expand({pairs}).contiguous();
  result.frequency = values.narrow(0, pairs, states - pairs).clone();
  result.V = vectors.narrow(1, pairs, states - pairs).contiguous();
  if (std::abs(result.frequency[0].item().toDouble()) < 1e-9) {
    // A double eigenvalue 0, whose eigenvectors any unitary mixture serves: take the one that has the other's
    // conjugate.
    result.frequency[0].zero_();
    result.V.select(1, 0).zero_();
    result.V[0][0].fill_(std::numbers::sqrt2 / 2.0);
    result.V[1][0].fill_(c10::complex<double>(0.0, -std::numbers::sqrt2 / 2.0));
  }
  hippo_detail::fix_phases(result.V);
  const Tensor adjoint = result.V.conj().t().resolve_conj();
  result.B = adjoint.mv(system.B.to(at::kComplexDouble));
  result.P = system.P.to(at::kComplexDouble).mm(adjoint.t());
  return result;
}

DiscreteMatrices generalised_bilinear(const Tensor& A, const Tensor& B, const Tensor& dt, double alpha) {
  const Tensor step = hippo_detail::times(dt, A), identity = at::eye(A.size(-1), A.options());
  const Tensor right = at::cat({identity.add(step, 1.0 - alpha), dt.unsqueeze(-1).mul(B).unsqueeze(-1)}, -1);
  // No look at whether it is singular, for which a GPU would have to be waited for.
  const Tensor both = std::get<0>(at::linalg_solve_ex(identity.sub(step, alpha), right));
  return {both.narrow(-1, 0, A.size(-1)), both.select(-1, A.size(-1))};
}

DiscreteMatrices zero_order_hold(const Tensor& A, const Tensor& B, const Tensor& dt) {
  const int64_t states = A.size(-1);
  const Tensor step = at::cat({hippo_detail::times(dt, A), dt.unsqueeze(-1).mul(B).unsqueeze(-1)}, -1);
  auto below = step.sizes().vec();
  below[below.size() - 2] = 1;
  const Tensor both =
      at::linalg_matrix_exp(at::cat({step, at::zeros(below, step.options())}, -2)).narrow(-2, 0, states);
  return {both.narrow(-1, 0, states), both.select(-1, states)};
}

}  // namespace hippodrome
