#include "architectures/ssm/mamba2/mamba2.h"

#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/architectures/made_layer.h"

namespace hippodrome::mamba2_layer_test {
namespace {

double softplus(double x) { return x > 20.0 ? x : std::log1p(std::exp(x)); }
double silu(double x) { return x / (1.0 + std::exp(-x)); }

// Row-major matrix [rows, columns] times vector.
std::vector<double> product(const Tensor& matrix, const std::vector<double>& x) {
  const int64_t rows = matrix.size(0), columns = matrix.size(1);
  const double* m = matrix.const_data_ptr<double>();
  std::vector<double> y(static_cast<size_t>(rows), 0.0);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) y[r] += m[r * columns + c] * x[c];
  }
  return y;
}

struct Sizes {
  int64_t heads, head_size, groups, states, taps;
};

// The layer's equations token by token in double, written from the paper and sharing nothing with the layer.
Tensor step_by_step(Made<Mamba2>& layer, const Mamba2::Config& config, const Tensor& x, const Sizes& s) {
  const int64_t d = s.heads * s.head_size, GN = s.groups * s.states, channels = d + 2 * GN, width = x.size(2);
  const auto scalar = [&](const char* name, int64_t i) { return layer.value(name)[i].item().toDouble(); };
  Tensor out = at::zeros_like(x);
  for (int64_t b = 0; b < x.size(0); ++b) {
    std::vector<double> window(channels * s.taps, 0.0), h(d * s.states, 0.0);
    for (int64_t t = 0; t < x.size(1); ++t) {
      const Tensor token = x[b][t].contiguous();
      const double* u = token.const_data_ptr<double>();
      const std::vector<double> all = product(layer.value("in_proj.weight"), std::vector<double>(u, u + width));
      std::vector<double> xBC(channels), y(d);
      for (int64_t c = 0; c < channels; ++c) {
        double sum = scalar("conv1d.bias", c);
        for (int64_t j = 0; j < s.taps; ++j) {
          double& tap = window[c * s.taps + j];
          tap = j + 1 < s.taps ? window[c * s.taps + j + 1] : all[d + c];
          sum += tap * layer.value("conv1d.weight")[c][j].item().toDouble();
        }
        xBC[c] = silu(sum);
      }
      for (int64_t i = 0; i < d; ++i) {
        const int64_t head = i / s.head_size, group = head / (s.heads / s.groups);
        double dt = softplus(all[d + channels + head] + scalar("dt_bias", head));
        dt = std::min(std::max(dt, config.dt_limit_low), config.dt_limit_high);
        const double *B = xBC.data() + d + group * s.states, *C = B + GN;
        y[i] = scalar("D", head) * xBC[i];
        for (int64_t n = 0; n < s.states; ++n) {
          double& state = h[i * s.states + n];
          state = std::exp(-dt * std::exp(scalar("A_log", head))) * state + dt * xBC[i] * B[n];
          y[i] += state * C[n];
        }
      }
      for (int64_t i = 0; i < d && !config.norm_before_gate; ++i) y[i] *= silu(all[i]);
      for (int64_t begin = 0; begin < d; begin += d / s.groups) {
        double squares = 0.0;
        for (int64_t i = begin; i < begin + d / s.groups; ++i) squares += y[i] * y[i];
        const double scale = 1.0 / std::sqrt(squares / static_cast<double>(d / s.groups) + config.gate_norm_epsilon);
        for (int64_t i = begin; i < begin + d / s.groups; ++i) y[i] *= scale * scalar("norm.weight", i);
      }
      for (int64_t i = 0; i < d && config.norm_before_gate; ++i) y[i] *= silu(all[i]);
      const std::vector<double> row = product(layer.value("out_proj.weight"), y);
      for (int64_t e = 0; e < width; ++e) out[b][t][e] = row[e];
    }
  }
  return out;
}

Mamba2::Config small(const std::string& kernel = "fused") {
  Mamba2::Config config;
  config.state = 3;
  config.head_size = 8;
  config.kernel = kernel;
  return config;
}

TEST(Mamba2Layer, EqualsTheEquationsStepByStep) {
  for (const char* kernel : {"fused", "reference"}) {
    for (const int64_t groups : {1, 5}) {
      for (const bool norm_before_gate : {false, true}) {
        Mamba2::Config config = small(kernel);
        config.groups = groups;
        config.norm_before_gate = norm_before_gate;
        config.dt_limit_low = 0.5;
        config.dt_limit_high = 0.9;
        Made<Mamba2> layer(config, site_of(20), at::kDouble, 0.5);
        const Tensor x = drawn({2, 7, 20}, 1);
        const Tensor y = layer->forward(x, Context::plain(2, 7, 0, x.device()), nullptr);
        EXPECT_LT(farthest(y, step_by_step(layer, config, x, {5, 8, groups, 3, 4})), 1e-11)
            << kernel << " " << groups << " " << norm_before_gate;
      }
    }
  }
}

TEST(Mamba2Layer, PiecesEqualTheWholeAndTheStateIsAsDeclared) {
  Made<Mamba2> layer(small(), site_of(20));
  expect_pieces_equal_the_whole(*layer, 20);
}

TEST(Mamba2Layer, PackedSequencesEqualSeparateOnes) {
  Made<Mamba2> layer(small(), site_of(20));
  expect_packed_equals_separate(*layer, 20, {"ssm", "conv"});
}

// Per sequence the 130m shape holds 24 (24·64·128 + 1,792·4) numbers with K slots of the convolution, of
// which K - 1 suffice.
TEST(Mamba2Layer, StateOfThePublishedShape) {
  const Mamba2 layer(Mamba2::Config(), site_of(768));
  const int64_t elements = layer.cost({.rows = 1, .length = 1, .context = 0, .element_size = 4}).state_bytes / 4;
  EXPECT_EQ(24 * (elements + 1792), 4890624);
}

TEST(Mamba2Layer, InitialValues) {
  Made<Mamba2> layer(Mamba2::Config(), site_of(1024, /*blocks=*/4));
  const Tensor step = layer.value("dt_bias").exp().log1p();
  EXPECT_GE(step.min().item().toDouble(), 1e-3 * (1 - 1e-9));
  EXPECT_LE(step.max().item().toDouble(), 1e-1 * (1 + 1e-9));
  const Tensor A = layer.value("A_log").exp();
  EXPECT_GE(A.min().item().toDouble(), 1.0);
  EXPECT_LE(A.max().item().toDouble(), 16.0);
  EXPECT_NEAR(A.mean().item().toDouble(), 8.5, 2.5);  // 32 draws of U(1, 16)
  EXPECT_GT(A.max().item().toDouble() - A.min().item().toDouble(), 8.0);
  EXPECT_EQ(layer.value("D").min().item().toDouble(), 1.0);
  EXPECT_EQ(layer.value("norm.weight").min().item().toDouble(), 1.0);
  EXPECT_NEAR(layer.value("out_proj.weight").abs().max().item().toDouble(), 1.0 / std::sqrt(2048.0) / 2.0, 1e-5);
  for (const char* name : {"A_log", "D", "dt_bias"}) {
    EXPECT_FALSE(layer->parameters().find(name)->facts.weight_decay) << name;
    EXPECT_TRUE(layer->parameters().find(name)->facts.keep_float32) << name;
  }
}

TEST(Mamba2Layer, HeadsAreWholeDivisorsOfTheInnerWidth) {
  const std::pair<int64_t, int64_t> heads_of_width[] = {{768, 24}, {48, 2}, {20, 1}, {8, 1}, {67, 67}};
  for (const auto& [width, heads] : heads_of_width) {
    EXPECT_EQ(Made<Mamba2>(Mamba2::Config(), site_of(width)).value("D").size(0), heads) << width;
  }
  Mamba2::Config config = small();
  config.groups = 2;
  EXPECT_EQ(Mamba2::check(config, site_of(20)).message(), "the 5 heads do not divide into groups = 2");
}

// What is kept of a parameter between tokens follows the parameter.
TEST(Mamba2Layer, SeesAParameterThatChangesBetweenCalls) {
  const at::NoGradGuard inference;
  Made<Mamba2> layer(small(), site_of(20));
  const Tensor x = drawn({1, 5, 20}, 1);
  const Context context = Context::plain(1, 5, 0, x.device());
  const Tensor before = layer->forward(x, context, nullptr);
  layer.value("A_log").add_(1.0);
  const Tensor after = layer->forward(x, context, nullptr);
  EXPECT_GT(farthest(before, after), 1e-6);
  layer.value("A_log") = layer.value("A_log").sub(1.0);
  EXPECT_LT(farthest(layer->forward(x, context, nullptr), before), 1e-12);
}

}  // namespace
}  // namespace hippodrome::mamba2_layer_test
