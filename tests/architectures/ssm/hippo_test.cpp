#include "architectures/ssm/hippo/hippo.h"

#include <ATen/ops/complex.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/imag.h>
#include <ATen/ops/real.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include "tests/architectures/made_layer.h"

namespace hippodrome::hippo_test {
namespace {

Tensor golden(std::vector<double> values, at::IntArrayRef shape) { return at::tensor(values, at::kDouble).view(shape); }

TEST(Hippo, LegSMatchesKnownValues) {
  const HippoSystem system = hippo("legs", 4);
  const Tensor A = golden(
      {-1, 0, 0, 0, -1.73205081, -2, 0, 0, -2.23606798, -3.87298335, -3, 0, -2.64575131, -4.58257569, -5.91607978, -4},
      {4, 4});
  EXPECT_LT(farthest(system.A, A), 1e-8);
  EXPECT_LT(farthest(system.B, golden({1, 1.73205081, 2.23606798, 2.64575131}, {4})), 1e-8);
  const NormalPlusLowRank normal = normal_plus_low_rank(system);
  EXPECT_LT(farthest(normal.decay, golden({0.5, 0.5}, {2})), 1e-12);
  EXPECT_LT(farthest(normal.frequency, golden({0.55650112, 4.60329301}, {2})), 1e-8);
}

TEST(Hippo, BilinearLegSMatchesKnownValues) {
  const HippoSystem system = hippo("legs", 4);
  const DiscreteMatrices discrete = generalised_bilinear(system.A, system.B, at::tensor(0.1, at::kDouble));
  const Tensor A = golden({0.9047619, 0, 0, 0, -0.14996111, 0.81818182, 0, 0, -0.15992957, -0.30616469, 0.73913043, 0,
                           -0.14192342, -0.27169421, -0.42870143, 0.66666667},
                          {4, 4});
  EXPECT_LT(farthest(discrete.A, A), 1e-8);
  EXPECT_LT(farthest(discrete.B, golden({0.0952381, 0.14996111, 0.15992957, 0.14192342}, {4})), 1e-8);
}

// Translated Legendre and Fourier at small sizes, by hand.
TEST(Hippo, LegTAndFouTMatchTheirDefinition) {
  const double root = std::sqrt(3.0);
  EXPECT_LT(farthest(hippo("legt", 2).A, golden({-0.5, 0.5 * root, -0.5 * root, -1.5}, {2, 2})), 1e-15);
  EXPECT_LT(farthest(hippo("legt", 2).B, golden({0.5, 0.5 * root}, {2})), 1e-15);
  const double pi = 3.14159265358979, two = std::sqrt(2.0);
  EXPECT_LT(farthest(hippo("fout", 4).A, golden({-1, 0, -two, 0, 0, 0, 0, 0, -two, 0, -2, -pi, 0, 0, pi, 0}, {4, 4})),
            1e-13);
  EXPECT_THROW(hippo("fout", 3), c10::Error);
  EXPECT_THROW(hippo("legz", 4), c10::Error);
}

// A = 2 Re V (Λ - P P*) V* for every system: the pairs that are kept lose nothing.
TEST(Hippo, NormalPlusLowRankIsTheSameSystem) {
  for (const char* name : {"legs", "legt", "fout"}) {
    for (const int64_t states : {2, 4, 16, 64}) {
      const HippoSystem system = hippo(name, states);
      const NormalPlusLowRank normal = normal_plus_low_rank(system);
      EXPECT_EQ(normal.P.size(0), std::string(name) == "legt" ? 2 : 1);
      const Tensor adjoint = normal.V.conj().t();
      EXPECT_LT(farthest(adjoint.matmul(normal.V).abs(), at::eye(states / 2, at::kDouble)), 1e-12) << name << states;
      const Tensor lambda = at::complex(normal.decay.neg(), normal.frequency);
      const Tensor diagonal = at::real(normal.V.mul(lambda).matmul(adjoint)).mul(2.0);
      // P in the basis of the system, so that P̃ P̃* is turned back as a whole, conjugate half included.
      const Tensor P = at::real(normal.V.matmul(normal.P.t())).mul(2.0);
      const double scale = system.A.abs().max().item().toDouble();
      EXPECT_LT(farthest(diagonal.sub(P.matmul(P.t())), system.A), 1e-12 * scale) << name << states;
      EXPECT_LT(farthest(at::real(normal.V.mv(normal.B)).mul(2.0), system.B), 1e-12 * scale) << name << states;
      EXPECT_GE(normal.frequency.min().item().toDouble(), 0.0);
      for (int64_t n = 0; n < states / 2; ++n) {
        // The phase is fixed: the first component that is not 0 is real and positive.
        const Tensor column = normal.V.select(1, n);
        const int64_t first = column.abs().gt(1e-9).to(at::kLong).argmax().item().toLong();
        EXPECT_GT(at::real(column)[first].item().toDouble(), 0.0);
        EXPECT_NEAR(at::imag(column)[first].item().toDouble(), 0.0, 1e-14);
      }
    }
  }
}

TEST(Hippo, DiscretisationsAgreeWhereTheyMust) {
  const Tensor A = golden({-0.5, 2.0, -2.0, -0.25}, {2, 2}), B = golden({1.0, -0.5}, {2});
  const Tensor dt = golden({1e-3, 0.05}, {2}), identity = at::eye(2, at::kDouble);
  // Euler and backward Euler by their definition, for each step size.
  const DiscreteMatrices euler = generalised_bilinear(A, B, dt, 0.0), backward = generalised_bilinear(A, B, dt, 1.0);
  const DiscreteMatrices bilinear = generalised_bilinear(A, B, dt), hold = zero_order_hold(A, B, dt);
  for (int64_t i = 0; i < 2; ++i) {
    const double step = dt[i].item().toDouble();
    EXPECT_LT(farthest(euler.A[i], identity.add(A, step)), 1e-15);
    EXPECT_LT(farthest(euler.B[i], B.mul(step)), 1e-15);
    EXPECT_LT(farthest(identity.sub(A, step).matmul(backward.A[i]), identity), 1e-14);
    // Bilinear and the hold differ in the third order, Euler and the hold in the second.
    EXPECT_LT(farthest(bilinear.A[i], hold.A[i]), 2.0 * step * step * step);
    EXPECT_GT(farthest(euler.A[i], hold.A[i]), 0.5 * step * step);
    // A B_d = (A_d - 1) B.
    EXPECT_LT(farthest(A.mv(hold.B[i]), hold.A[i].sub(identity).mv(B)), 1e-15);
  }
  // A singular matrix has a hold: an integrator.
  const DiscreteMatrices integrator = zero_order_hold(at::zeros_like(A), B, dt);
  EXPECT_LT(farthest(integrator.A[1], identity), 1e-15);
  EXPECT_LT(farthest(integrator.B[1], B.mul(0.05)), 1e-15);
}

}  // namespace
}  // namespace hippodrome::hippo_test
