#include "architectures/ssm/s4d/s4d.h"

#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "architectures/ssm/s4d/convolution.h"
#include "tests/architectures/made_layer.h"

namespace hippodrome::s4d_layer_test {
namespace {

// One channel with the given poles, step 0.1, B = C = 1.
Tensor kernel_of_ones(const InitialPoles& poles, bool bilinear, int64_t length) {
  const Tensor log_decay = at::tensor(poles.decay, at::kDouble).log().unsqueeze(0);
  const Tensor frequency = at::tensor(poles.frequency, at::kDouble).unsqueeze(0);
  const DiscreteSystem s = discretise(at::full({1}, std::log(0.1), at::kDouble), log_decay, frequency, bilinear);
  return vandermonde_kernel(s.b_real, s.b_imag, s.log_a_real, s.log_a_imag, length, at::kDouble)[0];
}

TEST(S4dKernel, MatchesKnownValuesForBothDiscretisations) {
  const Tensor zoh = at::tensor({0.38701121, 0.35034119, 0.30098495, 0.24402016, 0.18480892, 0.12845668}, at::kDouble);
  const Tensor bilinear =
      at::tensor({0.3857666, 0.34987723, 0.3014449, 0.2453625, 0.18682839, 0.13082682}, at::kDouble);
  EXPECT_LT(farthest(kernel_of_ones(initial_poles("lin", 4), false, 6), zoh), 1e-8);
  EXPECT_LT(farthest(kernel_of_ones(initial_poles("lin", 4), true, 6), bilinear), 1e-8);
}

TEST(S4dKernel, InitialPolesMatchKnownValues) {
  const InitialPoles inv = initial_poles("inv", 4);
  EXPECT_NEAR(inv.frequency[0], 3.81971863, 1e-8);
  EXPECT_NEAR(inv.frequency[1], 0.42441318, 1e-8);
  EXPECT_NEAR(initial_poles("inv", 64).frequency[0], 1283.42546109, 1e-7);
  EXPECT_NEAR(initial_poles("inv", 64).frequency[1], 414.22726522, 1e-7);
  EXPECT_NEAR(initial_poles("inv", 64).frequency[2], 240.38762605, 1e-7);
  const InitialPoles legs = initial_poles("legs", 4);
  EXPECT_NEAR(legs.frequency[0], 0.55650112, 1e-8);
  EXPECT_NEAR(legs.frequency[1], 4.60329301, 1e-8);
  EXPECT_EQ(legs.decay, std::vector<double>({0.5, 0.5}));
  EXPECT_EQ(initial_poles("real", 6).decay, std::vector<double>({1.0, 2.0, 3.0}));
  EXPECT_NEAR(initial_poles("lin", 6).frequency[2], 2.0 * std::numbers::pi, 1e-12);
}

// The table product against powers taken one by one, at lengths around the table's edges, and in float32.
TEST(S4dKernel, EqualsPowersTakenOneByOne) {
  const InitialPoles poles = initial_poles("legs", 16);
  for (const int64_t length : {1, 2, 3, 16, 17, 65, 1000}) {
    const Tensor kernel = kernel_of_ones(poles, false, length);
    for (const int64_t l : {int64_t{0}, length / 2, length - 1}) {
      double sum = 0.0;
      for (size_t n = 0; n < poles.decay.size(); ++n) {
        // 2 Re of b e^{l Δ A} with b = (e^{ΔA} - 1)/A.
        const double re = -poles.decay[n], im = poles.frequency[n], e = std::exp(0.1 * re), square = re * re + im * im;
        const double br = ((e * std::cos(0.1 * im) - 1.0) * re + e * std::sin(0.1 * im) * im) / square;
        const double bi = (e * std::sin(0.1 * im) * re - (e * std::cos(0.1 * im) - 1.0) * im) / square;
        const double radius = std::exp(0.1 * re * static_cast<double>(l)), phase = 0.1 * im * static_cast<double>(l);
        sum += 2.0 * radius * (br * std::cos(phase) - bi * std::sin(phase));
      }
      EXPECT_NEAR(kernel[l].item().toDouble(), sum, 1e-12) << length << " " << l;
    }
  }
}

TEST(S4dKernel, FftConvolutionIsTheSum) {
  const Tensor u = drawn({2, 7, 3}, 1), kernel = drawn({3, 7}, 2);
  const Tensor y = fft_convolution(u, kernel);
  for (int64_t t = 0; t < 7; ++t) {
    Tensor sum = at::zeros({2, 3}, at::kDouble);
    for (int64_t s = 0; s <= t; ++s) sum = sum.add(u.select(1, s).mul(kernel.select(1, t - s)));
    EXPECT_LT(farthest(y.select(1, t), sum), 1e-12);
  }
}

S4d::Config small(const std::string& kernel, const std::string& discretisation = "zoh") {
  S4d::Config config;
  config.state = 6;
  config.kernel = kernel;
  config.discretisation = discretisation;
  return config;
}

// Convolution, fused recurrence and plain recurrence give the same outputs and gradients.
TEST(S4dLayer, ConvolutionEqualsRecurrence) {
  for (const char* discretisation : {"zoh", "bilinear"}) {
    std::vector<Tensor> results;
    for (const char* kernel : {"convolution", "scan", "reference"}) {
      Made<S4d> layer(small(kernel, discretisation), site_of(5));
      layer->parameters().set_requires_grad(true);
      const Tensor x = drawn({2, 19, 5}, 1).requires_grad_();
      const Tensor y = layer->forward(x, Context::plain(2, 19, 0, x.device()), nullptr);
      y.mul(drawn({2, 19, 5}, 2)).sum().backward();
      std::vector<Tensor> parts = {y.detach().flatten(), x.grad().flatten()};
      for (const char* name : {"log_dt", "log_decay", "frequency", "C", "D", "output.weight"}) {
        parts.push_back(layer.value(name).grad().flatten());
      }
      results.push_back(at::cat(parts));
    }
    EXPECT_LT(farthest(results[0], results[1]), 1e-11) << discretisation;
    EXPECT_LT(farthest(results[0], results[2]), 1e-11) << discretisation;
  }
}

TEST(S4dLayer, PiecesEqualTheWholeAndTheStateIsAsDeclared) {
  for (const bool gradients : {false, true}) {
    const at::AutoGradMode mode(gradients);
    Made<S4d> layer(small("convolution"), site_of(5));
    const Tensor x = drawn({2, 9, 5}, 1);
    const Tensor whole = layer->forward(x, Context::plain(2, 9, 0, x.device()), nullptr);
    State state = fresh_state(*layer, x);
    EXPECT_LT(farthest(in_pieces(*layer, x, {3, 1, 4, 1}, state), whole), 1e-12);
    EXPECT_EQ(state.bytes(), layer->cost({.rows = 2, .length = 1, .context = 8, .element_size = 8}).state_bytes);
  }
}

TEST(S4dLayer, PackedSequencesEqualSeparateOnes) {
  Made<S4d> layer(small("convolution"), site_of(5));
  const Tensor a = drawn({1, 3, 5}, 1), b = drawn({1, 2, 5}, 2);
  const Tensor packed = at::cat({a, drawn({1, 1, 5}, 3), b}, 1);
  const Tensor y = layer->forward(packed, ragged_context({{0, 1, 2, -1, 0, 1}}), nullptr);
  EXPECT_LT(farthest(y.narrow(1, 0, 3), layer->forward(a, Context::plain(1, 3, 0, a.device()), nullptr)), 1e-12);
  EXPECT_LT(farthest(y.narrow(1, 4, 2), layer->forward(b, Context::plain(1, 2, 0, b.device()), nullptr)), 1e-12);
}

// What is derived for decoding follows the parameters: written in place, replaced, and in another dtype.
TEST(S4dLayer, DecodingSeesNewParameterValues) {
  const at::NoGradGuard inference;
  Made<S4d> layer(small("scan"), site_of(5)), fresh(small("scan"), site_of(5));
  const Tensor x = drawn({1, 1, 5}, 1);
  const Context context = Context::plain(1, 1, 0, x.device());
  const Tensor before = layer->forward(x, context, nullptr);
  EXPECT_LT(farthest(layer->forward(x, context, nullptr), before), 1e-15);
  layer.value("C").mul_(2.0);
  fresh.value("C").mul_(2.0);
  EXPECT_LT(farthest(layer->forward(x, context, nullptr), fresh->forward(x, context, nullptr)), 1e-15);
  EXPECT_GT(farthest(layer->forward(x, context, nullptr), before), 1e-3);
  layer.value("log_dt") = layer.value("log_dt").add(1.0);
  fresh.value("log_dt").add_(1.0);
  EXPECT_LT(farthest(layer->forward(x, context, nullptr), fresh->forward(x, context, nullptr)), 1e-15);
}

TEST(S4dLayer, CountsAndInitialValues) {
  Made<S4d> layer(S4d::Config(), site_of(256));
  EXPECT_EQ(layer->parameters().count(), 164864);
  EXPECT_GE(layer.value("log_dt").min().item().toDouble(), std::log(1e-3));
  EXPECT_LE(layer.value("log_dt").max().item().toDouble(), std::log(1e-1));
  EXPECT_NEAR(layer.value("log_dt").mean().item().toDouble(), std::log(1e-2), 0.3);
  EXPECT_NEAR(layer.value("log_decay").mean().item().toDouble(), std::log(0.5), 1e-12);
  EXPECT_NEAR(layer.value("C").square().sum(-1).mean().item().toDouble(), 1.0, 0.05);
  EXPECT_NEAR(layer.value("D").std().item().toDouble(), 1.0, 0.1);
  for (const char* name : {"log_dt", "log_decay", "frequency"}) {
    const ParameterFacts& facts = layer->parameters().find(name)->facts;
    EXPECT_FALSE(facts.weight_decay) << name;
    EXPECT_EQ(facts.learning_rate_scale, 0.1) << name;
  }
  EXPECT_TRUE(layer->parameters().find("C")->facts.weight_decay);
}

TEST(S4dLayer, RefusesAnOddState) {
  S4d::Config config;
  config.state = 5;
  EXPECT_FALSE(S4d::check(config, site_of(8)).ok());
}

}  // namespace
}  // namespace hippodrome::s4d_layer_test
