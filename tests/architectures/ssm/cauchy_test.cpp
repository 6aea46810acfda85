#include "architectures/ssm/cauchy/cauchy.h"

#include <ATen/ops/complex.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/stack.h>

#include <complex>
#include <numbers>
#include <tuple>

#include "tests/architectures/recurrent/scan_checks.h"

namespace hippodrome {
namespace cauchy_test {
namespace {

using namespace scan_checks;

Op op(bool reference, int64_t length) {
  return [=](const Tensors& in) -> Tensors { return {cauchy(in[0], in[1], length, reference)}; };
}

// Poles as S4 has them: half a step times a decay near ½ and frequencies up to a few hundred.
Tensors inputs(int64_t channels, int64_t rows, int64_t states, double step = 0.01) {
  seed();
  const at::Tensor decay = at::rand({channels, states}, at::kDouble).add(0.2).mul(-0.5 * step);
  const at::Tensor frequency = at::rand({channels, states}, at::kDouble).mul(0.5 * step * 300.0);
  return {at::randn({channels, rows, states, 2}, at::kDouble), at::stack({decay, frequency}, -1)};
}

// Σ v / ((1-ω) - (1+ω) λ) and conjugates, in complex arithmetic at ω = e^{-2πik/L}: what the op multiplies out.
TEST(Cauchy, IsTheSumOfResolventsAtRootsOfUnity) {
  for (const int64_t length : {1, 2, 3, 8, 15}) {
    const Tensors in = inputs(1, 2, 3, 0.1);
    const at::Tensor sums = cauchy(in[0], in[1], length);
    ASSERT_EQ(sums.sizes(), at::IntArrayRef({1, 2, length / 2 + 1, 2}));
    for (int64_t k = 0; k <= length / 2; ++k) {
      const double angle = std::numbers::pi * static_cast<double>(k) / static_cast<double>(length);
      const std::complex<double> omega = std::polar(1.0, -2.0 * angle);
      for (int64_t m = 0; m < 2; ++m) {
        std::complex<double> sum = 0.0;
        for (int64_t n = 0; n < 3; ++n) {
          const auto number = [](const at::Tensor& pair) {
            return std::complex<double>(pair[0].item<double>(), pair[1].item<double>());
          };
          const auto v = number(in[0][0][m][n]), lambda = number(in[1][0][n]);
          sum += v / ((1.0 - omega) - (1.0 + omega) * lambda);
          sum += std::conj(v) / ((1.0 - omega) - (1.0 + omega) * std::conj(lambda));
        }
        sum *= 2.0 * std::polar(1.0, -angle);
        EXPECT_NEAR(sums[0][m][k][0].item<double>(), sum.real(), 1e-12 * std::abs(sum)) << length << " " << k;
        EXPECT_NEAR(sums[0][m][k][1].item<double>(), sum.imag(), 1e-12 * std::abs(sum)) << length << " " << k;
      }
    }
  }
}

TEST(Cauchy, FusedMatchesReference) {
  for (const int64_t length : {1, 2, 31, 32, 33, 200}) {
    for (const auto& [channels, rows, states] :
         std::vector<std::tuple<int64_t, int64_t, int64_t>>{{1, 1, 1}, {3, 2, 5}, {2, 3, 32}, {5, 4, 32}, {4, 9, 7}}) {
      const Tensors in = inputs(channels, rows, states);
      const auto label = ::testing::PrintToString(std::make_tuple(length, channels, rows, states));
      // Beside a pole the rounding of a node to float decides, for plain loops as well; how far theirs is out is
      // chance.
      expect_fused_matches(op(false, length), op(true, length), in, label, {.output_factor = 8, .gradient_factor = 8});
    }
  }
}

TEST(Cauchy, GradientsMatchFiniteDifferences) {
  expect_gradients_match_differences(op(false, 14), inputs(2, 4, 3, 0.2));
  expect_gradients_match_differences(op(true, 13), inputs(2, 3, 3, 0.2));
}

TEST(Cauchy, SameBitsForAnyThreadsAndRuns) { expect_same_bits_for_any_threads(op(false, 300), inputs(70, 4, 32)); }

TEST(Cauchy, DoubleBackwardRaises) {
  Tensors in = inputs(1, 1, 2);
  for (const bool reference : {false, true}) {
    in[0] = in[0].detach().set_requires_grad(true);
    const Tensors first = torch::autograd::grad({op(reference, 6)(in)[0].square().sum()}, {in[0]}, {}, true, true);
    EXPECT_THROW(torch::autograd::grad({first[0].sum()}, {in[0]}), c10::Error);
  }
}

TEST(Cauchy, MetaTensorsHaveTheShapesOfTheResult) {
  const auto meta = at::TensorOptions().device(at::kMeta).dtype(at::kDouble);
  const at::Tensor v = at::empty({2, 4, 3, 2}, meta).set_requires_grad(true), lambda = at::empty({2, 3, 2}, meta);
  const at::Tensor sums = cauchy(v, lambda, 10);
  EXPECT_EQ(sums.sizes(), at::IntArrayRef({2, 4, 6, 2}));
  EXPECT_EQ(torch::autograd::grad({sums.sum()}, {v})[0].sizes(), v.sizes());
}

TEST(Cauchy, WrongShapesAreNamed) {
  const Tensors good = inputs(2, 3, 4);
  EXPECT_THROW(cauchy(good[0].slice(2, 0, 3), good[1], 8), c10::Error);
  EXPECT_THROW(cauchy(good[0], good[1].slice(2, 0, 1), 8), c10::Error);
  EXPECT_THROW(cauchy(good[0], good[1].to(at::kFloat), 8), c10::Error);
  EXPECT_THROW(cauchy(good[0], good[1], 0), c10::Error);
}

}  // namespace
}  // namespace cauchy_test
}  // namespace hippodrome
