#include "architectures/ssm/s4/dplr.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/complex.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/fft_irfft.h>
#include <ATen/ops/linalg_eig.h>
#include <ATen/ops/linalg_inv.h>
#include <ATen/ops/linalg_inv_ex.h>
#include <ATen/ops/real.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/view_as_complex.h>
#include <ATen/ops/view_as_real.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <numbers>
#include <tuple>

#include "architectures/ssm/cauchy/cauchy.h"
#include "architectures/ssm/dplr_scan/dplr_scan.h"

namespace hippodrome {
namespace dplr_detail {
namespace {

// 2 Re Σ_n left_i right_j: [H, I, J] from [H, I, N/2] and [H, J, N/2].
Tensor real_products(const Tensor& left, const Tensor& right) {
  return at::real(left.unsqueeze(2).mul(right.unsqueeze(1)).sum(-1)).mul(2.0);
}

// Of matrices [H, R, R] with the few ranks that HiPPO's systems have, by formula, which a device can record. No look at
// whether they are singular, for which a GPU would have to be waited for.
Tensor small_inverses(const Tensor& m) {
  if (m.size(-1) == 1) return m.reciprocal();
  if (m.size(-1) > 2) return std::get<0>(at::linalg_inv_ex(m));
  const auto entry = [&](int64_t row, int64_t column) { return m.select(1, row).select(1, column); };
  const Tensor determinant = entry(0, 0).mul(entry(1, 1)).sub(entry(0, 1).mul(entry(1, 0)));
  const Tensor adjugate =
      at::stack({entry(1, 1), entry(0, 1).neg(), entry(1, 0).neg(), entry(0, 0)}, -1).view(m.sizes());
  return adjugate.div(determinant.view({-1, 1, 1}));
}

Tensor pairs_of(const Tensor& complex) { return at::view_as_real(complex.resolve_conj()); }

// The conjugate half behind the half that is kept.
Tensor with_conjugates(const Tensor& half) { return at::cat({half, half.conj()}, -1); }

// C (1 - Ā^L) [H, N/2]: the recurrence of the transposed matrix, from C and without inputs, exchanges q and w.
Tensor truncated(const DplrRecurrence& r, int64_t length) {
  const Tensor a = pairs_of(r.a), none = at::zeros_like(a);
  const Tensor silence = at::zeros({1, length, a.size(0)}, a.options()).transpose(1, 2);
  const auto [y, last] = dplr_scan(silence, a, none, none, pairs_of(r.w), pairs_of(r.q), pairs_of(r.c).unsqueeze(0));
  return r.c.sub(at::view_as_complex(last.squeeze(0)));
}

}  // namespace
}  // namespace dplr_detail

DplrRecurrence bilinear(const DplrSystem& system) {
  using dplr_detail::real_products;
  const Tensor dt = system.dt.unsqueeze(-1), half = dt.mul(0.5), z = system.lambda.mul(half);
  const Tensor D = z.neg().add(1.0).reciprocal().unsqueeze(1);  // [H, 1, N/2]
  const Tensor DP = D.mul(system.P), DB = D.mul(system.B.unsqueeze(1)), adjoint = system.P.conj();
  const Tensor half_step = half.unsqueeze(-1), gram = real_products(adjoint, DP);
  // With Re Λ < 0 it is never singular.
  const Tensor M = dplr_detail::small_inverses(at::eye(gram.size(-1), gram.options()).add(gram.mul(half_step)));
  // D P M [H, R, N/2], and M P*DB [H, R, 1].
  const Tensor DPM = DP.unsqueeze(2).mul(M.unsqueeze(-1)).sum(1);
  const Tensor PDB = real_products(adjoint, DB);
  DplrRecurrence r;
  r.a = z.add(1.0).mul(D.squeeze(1));
  r.b = DB.squeeze(1).sub(DPM.mul(PDB).sum(1).mul(half)).mul(dt);
  r.c = system.C;
  r.q = adjoint.mul(D);
  r.w = DPM.mul(half_step).mul(-2.0);
  return r;
}

DiagonalRecurrence diagonalised(const DplrRecurrence& r) {
  using dplr_detail::with_conjugates;
  const Tensor low_rank = with_conjugates(r.w).unsqueeze(-1).mul(with_conjugates(r.q).unsqueeze(-2)).sum(1);
  // Non-symmetric eigenvalues are a matter for the CPU.
  const Tensor matrix = with_conjugates(r.a).diag_embed().add(low_rank).to(at::kCPU);
  const auto [values, vectors] = at::linalg_eig(matrix);
  const Tensor inverse = at::linalg_inv(vectors);
  const double condition =
      vectors.detach().norm(2, {-2, -1}).mul(inverse.detach().norm(2, {-2, -1})).max().item().toDouble();
  TORCH_CHECK(condition < 1e8, "a state matrix cannot be diagonalised: its eigenvectors have a condition number of ",
              condition, "; use kernel = \"woodbury\", or fewer states");
  DiagonalRecurrence d;
  d.a = values.to(r.a.device());
  d.from_state = inverse.to(r.a.device());
  const Tensor to_states = vectors.to(r.a.device());
  d.b = d.from_state.mul(with_conjugates(r.b).unsqueeze(-2)).sum(-1);
  // Half, since a mode here does not stand for its conjugate as well.
  d.c = to_states.mul(with_conjugates(r.c).unsqueeze(-1)).sum(-2).mul(0.5);
  d.to_state = to_states.narrow(1, 0, r.a.size(1));
  return d;
}

Tensor dplr_kernel(const DplrSystem& system, int64_t length) {
  const int64_t channels = system.lambda.size(0), rank = system.P.size(1), nodes = length / 2 + 1;
  const Tensor C = dplr_detail::truncated(bilinear(system), length).unsqueeze(1);
  const Tensor left = at::cat({C, system.P.conj()}, 1), right = at::cat({system.B.unsqueeze(1), system.P}, 1);
  const Tensor v = left.unsqueeze(2).mul(right.unsqueeze(1)).flatten(1, 2);
  const Tensor half = system.dt.mul(0.5).view({-1, 1, 1, 1});
  const Tensor lambda = system.lambda.mul(half.view({-1, 1}));
  Tensor S = at::view_as_complex(cauchy(dplr_detail::pairs_of(v), dplr_detail::pairs_of(lambda), length))
                 .view({channels, rank + 1, rank + 1, nodes});
  const Tensor angle = at::arange(nodes, system.dt.options()).mul(std::numbers::pi / static_cast<double>(length));
  const Tensor cosine = angle.cos(), h = half.mul(cosine);
  // (1 + h S)⁻¹ by Sherman and Morrison, a row and column of the low rank at a time.
  for (int64_t r = rank; r >= 1; --r) {
    const Tensor column = S.narrow(2, r, 1).narrow(1, 0, r), row = S.narrow(1, r, 1).narrow(2, 0, r);
    const Tensor pivot = S.narrow(1, r, 1).narrow(2, r, 1).mul(h).add(1.0);
    S = S.narrow(1, 0, r).narrow(2, 0, r).sub(column.mul(row).mul(h).div(pivot));
  }
  const Tensor spectrum = S.view({channels, nodes}).mul(at::complex(cosine, angle.sin())).mul(half.view({-1, 1}));
  return at::fft_irfft(spectrum, length);
}

}  // namespace hippodrome
