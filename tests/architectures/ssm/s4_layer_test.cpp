#include "architectures/ssm/s4/s4.h"

#include <ATen/ops/complex.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/imag.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/real.h>
#include <ATen/ops/view_as_real.h>
#include <gtest/gtest.h>

#include <cmath>

#include "architectures/ssm/diagonal_scan/diagonal_scan.h"
#include "architectures/ssm/dplr_scan/dplr_scan.h"
#include "architectures/ssm/hippo/hippo.h"
#include "architectures/ssm/lssl/dense_system.h"
#include "tests/architectures/made_layer.h"

namespace hippodrome::s4_layer_test {
namespace {

// One HiPPO system under several step sizes, as S4 sees it and as the dense matrices that it comes from, with outputs
// C [H, N] in the coordinates of the latter.
struct Twins {
  DplrSystem s4;
  DiscreteMatrices dense;
  Tensor C;
};
Twins twins(const std::string& name, const Tensor& dt, const Tensor& C) {
  HippoSystem system = hippo(name, C.size(1));
  // As in the layer, a decay of at least 10⁻⁴, without which a pole is a node of the transform.
  if (name != "legs") system.A.sub_(at::eye(C.size(1), at::kDouble).mul(1e-4));
  const NormalPlusLowRank normal = normal_plus_low_rank(system);
  const auto every = [&](const Tensor& t) {
    auto sizes = t.sizes().vec();
    sizes.insert(sizes.begin(), dt.size(0));
    return t.expand(sizes).contiguous();
  };
  return {{dt, every(at::complex(normal.decay.neg(), normal.frequency)), every(normal.B),
           C.to(at::kComplexDouble).matmul(normal.V), every(normal.P)},
          generalised_bilinear(system.A, system.B, dt),
          C};
}

Tensor impulse(const Tensor& like, int64_t length) {
  Tensor u = at::zeros({1, length, like.size(0)}, like.options());
  u.select(1, 0).fill_(1.0);
  return u.transpose(1, 2);
}

// The kernel [H, L] as the response to an impulse, in `dtype`.
Tensor by_woodbury(const DplrSystem& system, int64_t length, at::ScalarType dtype, bool reference = false) {
  const DplrRecurrence r = bilinear(system);
  const auto pairs = [&](const Tensor& t) { return at::view_as_real(t.resolve_conj()).to(dtype); };
  const Tensor a = pairs(r.a);
  return std::get<0>(
      dplr_scan(impulse(a, length), a, pairs(r.b), pairs(r.c), pairs(r.q), pairs(r.w), {}, {}, reference))[0];
}
Tensor by_diagonal(const DplrSystem& system, int64_t length, at::ScalarType dtype) {
  const DiagonalRecurrence r = diagonalised(bilinear(system));
  const auto re = [&](const Tensor& t) { return at::real(t).to(dtype); };
  const auto im = [&](const Tensor& t) { return at::imag(t).to(dtype); };
  const Tensor u = impulse(re(r.a), length);
  return std::get<0>(diagonal_scan(u, re(r.a), im(r.a), re(r.b), im(r.b), re(r.c), im(r.c)))[0];
}
Tensor by_krylov(const Twins& t, int64_t length) {
  return DenseSystem(t.dense.A, t.dense.B).kernel(t.C.unsqueeze(1), length).squeeze(1);
}
// x ← Āx + B̄u, v = C x, one token at a time.
Tensor by_plain_recurrence(const Twins& t, int64_t length, at::ScalarType dtype) {
  const Tensor A = t.dense.A.to(dtype), C = t.C.to(dtype);
  Tensor x = t.dense.B.to(dtype);
  std::vector<Tensor> values;
  for (int64_t l = 0; l < length; ++l) {
    values.push_back(C.mul(x).sum(-1, true));
    x = A.matmul(x.unsqueeze(-1)).squeeze(-1);
  }
  return at::cat(values, 1);
}

double relative(const Tensor& a, const Tensor& b) {
  const Tensor exact = b.to(at::kDouble);
  return a.to(at::kDouble).sub(exact).norm().item().toDouble() / exact.norm().item().toDouble();
}

TEST(S4Kernel, MatchesKnownValuesEveryWay) {
  const Tensor golden =
      at::tensor({0.5470522, 0.22343937, 0.06399393, -0.00459942, -0.02562155, -0.02392916}, at::kDouble);
  const Twins t = twins("legs", at::tensor({0.1}, at::kDouble), at::ones({1, 4}, at::kDouble));
  EXPECT_LT(farthest(dplr_kernel(t.s4, 6)[0], golden), 1e-8) << "Cauchy kernel";
  EXPECT_LT(farthest(by_woodbury(t.s4, 6, at::kDouble)[0], golden), 1e-8) << "Woodbury recurrence";
  EXPECT_LT(farthest(by_woodbury(t.s4, 6, at::kDouble, true)[0], golden), 1e-8) << "its plain loops";
  EXPECT_LT(farthest(by_diagonal(t.s4, 6, at::kDouble)[0], golden), 1e-8) << "diagonalised recurrence";
  EXPECT_LT(farthest(by_krylov(t, 6)[0], golden), 1e-8) << "LSSL's blocked powers";
  EXPECT_LT(farthest(by_plain_recurrence(t, 6, at::kDouble)[0], golden), 1e-8) << "plain recurrence";
}

// S4 as convolution, as Woodbury and as diagonalised recurrence, LSSL's kernel and the plain recurrence are one
// function.
TEST(S4Kernel, ConvolutionRecurrencesLsslAndThePlainRecurrenceAgree) {
  const Tensor dt = at::tensor({1e-3, 1e-2, 1e-1}, at::kDouble);
  for (const char* name : {"legs", "legt", "fout"}) {
    for (const int64_t states : {4, 8, 64}) {
      const Twins t = twins(name, dt, drawn({3, states}, 1));
      // Beyond 8 states the eigenvectors of the Legendre systems are too ill-conditioned for 10⁻¹⁰.
      const bool diagonal = std::string(name) == "fout" || states == 4;
      for (const int64_t length : {1, 2, 3, 17, 256}) {
        const std::string what = name + std::to_string(states) + " at length " + std::to_string(length);
        const Tensor exact = by_plain_recurrence(t, length, at::kDouble);
        EXPECT_LT(relative(dplr_kernel(t.s4, length), exact), 1e-10) << "Cauchy kernel, " << what;
        EXPECT_LT(relative(by_woodbury(t.s4, length, at::kDouble), exact), 1e-10) << "Woodbury, " << what;
        EXPECT_LT(relative(by_krylov(t, length), exact), 1e-10) << "blocked powers, " << what;
        EXPECT_LT(relative(dplr_kernel(t.s4, length).to(at::kFloat), exact), 1e-5) << "Cauchy kernel, float, " << what;
        EXPECT_LT(relative(by_woodbury(t.s4, length, at::kFloat), exact), 1e-5) << "Woodbury, float, " << what;
        EXPECT_LT(relative(by_krylov(t, length).to(at::kFloat), exact), 1e-5) << "blocked powers, float, " << what;
        EXPECT_LT(relative(by_plain_recurrence(t, length, at::kFloat), exact), 1e-5) << "plain, float, " << what;
        if (!diagonal) continue;
        EXPECT_LT(relative(by_diagonal(t.s4, length, at::kDouble), exact), 1e-10) << "diagonal, " << what;
        EXPECT_LT(relative(by_diagonal(t.s4, length, at::kFloat), exact), 1e-5) << "diagonal, float, " << what;
      }
    }
  }
}

TEST(S4Kernel, LongKernelsStayAccurate) {
  const Tensor dt = at::tensor({1e-3, 1e-2, 1e-1}, at::kDouble);
  for (const char* name : {"legs", "legt", "fout"}) {
    const Twins t = twins(name, dt, drawn({3, 64}, 2));
    const Tensor exact = by_woodbury(t.s4, 16384, at::kDouble), kernel = dplr_kernel(t.s4, 16384).to(at::kFloat);
    for (int64_t h = 0; h < 3; ++h) EXPECT_LT(relative(kernel[h], exact[h]), 1e-6) << name << h;
  }
}

// Nothing is tied to a length: a longer kernel begins with the shorter one.
TEST(S4Kernel, BelongsToNoLength) {
  const Twins t = twins("legs", at::tensor({1e-3, 0.05}, at::kDouble), drawn({2, 64}, 3));
  const Tensor longest = dplr_kernel(t.s4, 300);
  for (const int64_t length : {1, 5, 64, 299}) {
    EXPECT_LT(relative(dplr_kernel(t.s4, length), longest.narrow(1, 0, length)), 1e-11) << length;
  }
}

TEST(S4Kernel, RefusesToDiagonaliseWhatCannotBe) {
  const Twins t = twins("legs", at::tensor({0.01}, at::kDouble), drawn({1, 64}, 4));
  EXPECT_THROW(diagonalised(bilinear(t.s4)), c10::Error);
}

S4::Config small(const std::string& kernel, const std::string& init = "legs") {
  S4::Config config;
  config.state = 6;
  config.kernel = kernel;
  config.init = init;
  return config;
}

// All kernels give the same outputs and gradients.
TEST(S4Layer, KernelsAgree) {
  for (const char* init : {"legs", "legt", "fout"}) {
    std::vector<Tensor> results;
    for (const char* kernel : {"reference", "woodbury", "convolution", "diagonal"}) {
      Made<S4> layer(small(kernel, init), site_of(5));
      layer->parameters().set_requires_grad(true);
      const Tensor x = drawn({2, 19, 5}, 1).requires_grad_();
      const Tensor y = layer->forward(x, Context::plain(2, 19, 0, x.device()), nullptr);
      y.mul(drawn({2, 19, 5}, 2)).sum().backward();
      std::vector<Tensor> parts = {y.detach().flatten(), x.grad().flatten()};
      for (const char* name : {"log_dt", "log_decay", "frequency", "P", "B", "C", "D", "output.weight"}) {
        parts.push_back(layer.value(name).grad().flatten());
      }
      results.push_back(at::cat(parts));
    }
    const double scale = results[0].abs().max().item().toDouble();
    EXPECT_LT(farthest(results[1], results[0]), 1e-12 * scale) << init << " woodbury";
    EXPECT_LT(farthest(results[2], results[0]), 1e-10 * scale) << init << " convolution";
    EXPECT_LT(farthest(results[3], results[0]), 1e-8 * scale) << init << " diagonal";
  }
}

TEST(S4Layer, PiecesEqualTheWholeAndTheStateIsAsDeclared) {
  for (const char* kernel : {"convolution", "woodbury", "diagonal"}) {
    for (const bool gradients : {false, true}) {
      const at::AutoGradMode mode(gradients);
      Made<S4> layer(small(kernel, "legt"), site_of(5));
      const Tensor x = drawn({2, 9, 5}, 1);
      const Tensor whole = layer->forward(x, Context::plain(2, 9, 0, x.device()), nullptr);
      State state = fresh_state(*layer, x);
      EXPECT_LT(farthest(in_pieces(*layer, x, {3, 1, 4, 1}, state), whole), 1e-11) << kernel;
      EXPECT_EQ(state.bytes(), layer->cost({.rows = 2, .length = 1, .context = 8, .element_size = 8}).state_bytes);
    }
  }
}

TEST(S4Layer, PackedSequencesEqualSeparateOnes) {
  Made<S4> layer(small("convolution"), site_of(5));
  const Tensor a = drawn({1, 3, 5}, 1), b = drawn({1, 2, 5}, 2);
  const Tensor packed = at::cat({a, drawn({1, 1, 5}, 3), b}, 1);
  const Tensor y = layer->forward(packed, ragged_context({{0, 1, 2, -1, 0, 1}}), nullptr);
  EXPECT_LT(farthest(y.narrow(1, 0, 3), layer->forward(a, Context::plain(1, 3, 0, a.device()), nullptr)), 1e-12);
  EXPECT_LT(farthest(y.narrow(1, 4, 2), layer->forward(b, Context::plain(1, 2, 0, b.device()), nullptr)), 1e-12);
}

// What is derived for decoding follows the parameters: written in place, replaced, and in another dtype.
TEST(S4Layer, DecodingSeesNewParameterValues) {
  const at::NoGradGuard inference;
  for (const char* kernel : {"woodbury", "diagonal"}) {
    Made<S4> layer(small(kernel), site_of(5)), fresh(small(kernel), site_of(5));
    const Tensor x = drawn({1, 1, 5}, 1);
    const Context context = Context::plain(1, 1, 0, x.device());
    const Tensor before = layer->forward(x, context, nullptr);
    EXPECT_LT(farthest(layer->forward(x, context, nullptr), before), 1e-15);
    for (const char* name : {"C", "P", "log_dt"}) {
      layer.value(name).mul_(1.5);
      fresh.value(name) = fresh.value(name).mul(1.5);
      EXPECT_LT(farthest(layer->forward(x, context, nullptr), fresh->forward(x, context, nullptr)), 1e-15) << name;
    }
    EXPECT_GT(farthest(layer->forward(x, context, nullptr), before), 1e-3);
  }
}

TEST(S4Layer, CountsAndInitialValues) {
  Made<S4> layer(S4::Config(), site_of(256));
  // log Δ and D; decay and frequency; P, B and C; the output's weight and bias.
  EXPECT_EQ(layer->parameters().count(), 2 * 256 + 256 * 32 * 2 + 3 * 256 * 64 + 2 * 256 * 256 + 2 * 256);
  EXPECT_NEAR(layer.value("log_decay").mean().item().toDouble(), std::log(0.5), 1e-9);
  EXPECT_NEAR(layer.value("C").square().sum(-1).mean().item().toDouble(), 1.0, 0.05);
  // B's imaginary parts are clipped, P's are not; both are those of HiPPO up to that.
  const NormalPlusLowRank normal = normal_plus_low_rank(hippo("legs", 64));
  EXPECT_LT(farthest(layer.value("P")[7][0], at::view_as_real(normal.P[0])), 1e-12);
  EXPECT_LT(farthest(layer.value("B")[7].select(-1, 0), at::real(normal.B)), 1e-12);
  EXPECT_LT(farthest(layer.value("B")[7].select(-1, 1), at::imag(normal.B).clamp(-2.0, 2.0)), 1e-12);
  EXPECT_GT(at::imag(normal.B).abs().max().item().toDouble(), 10.0);
  for (const char* name : {"log_dt", "log_decay", "frequency", "P", "B"}) {
    const ParameterFacts& facts = layer->parameters().find(name)->facts;
    EXPECT_FALSE(facts.weight_decay) << name;
    EXPECT_EQ(facts.learning_rate_scale, 0.1) << name;
  }
  EXPECT_TRUE(layer->parameters().find("C")->facts.weight_decay);
  S4::Config fourier;
  fourier.init = "fout";
  Made<S4> other(fourier, site_of(4));
  EXPECT_NEAR(other.value("log_decay").max().item().toDouble(), std::log(1e-4), 1e-9);  // 0 has no logarithm
}

TEST(S4Layer, RefusesWhatItCannotDo) {
  S4::Config config;
  config.state = 5;
  EXPECT_FALSE(S4::check(config, site_of(8)).ok());
  config.state = 16;
  EXPECT_TRUE(S4::check(config, site_of(8)).ok());
  config.kernel = "diagonal";
  EXPECT_FALSE(S4::check(config, site_of(8)).ok());
  config.init = "fout";
  EXPECT_TRUE(S4::check(config, site_of(8)).ok());
  config.dt_min = 1.0;
  EXPECT_FALSE(S4::check(config, site_of(8)).ok());
}

}  // namespace
}  // namespace hippodrome::s4_layer_test
