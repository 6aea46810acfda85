#include "architectures/ssm/mamba/mamba.h"

#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <cmath>
#include <complex>
#include <numbers>
#include <vector>

#include "tests/architectures/made_layer.h"

namespace hippodrome::mamba_layer_test {
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

// values[begin, begin + count) over its root mean square, times weight.
void rms_normalise(std::vector<double>& values, int64_t begin, int64_t count, const Tensor& weight, double epsilon) {
  double squares = 0.0;
  for (int64_t i = 0; i < count; ++i) squares += values[begin + i] * values[begin + i];
  for (int64_t i = 0; i < count; ++i) {
    values[begin + i] *= weight[i].item().toDouble() / std::sqrt(squares / static_cast<double>(count) + epsilon);
  }
}

// The layer's equations token by token in double, written from the paper and sharing nothing with the layer.
Tensor step_by_step(Made<Mamba>& layer, const Tensor& x, int64_t N, int64_t K, int64_t R, int64_t G = 1) {
  const bool norms = layer->parameters().find("dt_norm.weight") != nullptr;
  const Tensor conv_weight = layer.value("conv1d.weight"), conv_bias = layer.value("conv1d.bias");
  const Tensor dt_bias = layer.value("dt_proj.bias"), A_log = layer.value("A_log"), D = layer.value("D");
  const int64_t d = D.size(0), width = x.size(2);
  Tensor y = at::zeros_like(x);
  for (int64_t b = 0; b < x.size(0); ++b) {
    std::vector<double> window(d * K, 0.0), h(d * N, 0.0);
    for (int64_t t = 0; t < x.size(1); ++t) {
      const Tensor token = x[b][t].contiguous();
      const double* u = token.const_data_ptr<double>();
      const std::vector<double> xz = product(layer.value("in_proj.weight"), std::vector<double>(u, u + width));
      std::vector<double> convolved(d), gated(d);
      for (int64_t c = 0; c < d; ++c) {
        double sum = conv_bias[c].item().toDouble();
        for (int64_t j = 0; j < K; ++j) {
          double& tap = window[c * K + j];
          tap = j + 1 < K ? window[c * K + j + 1] : xz[c];
          sum += tap * conv_weight[c][j].item().toDouble();
        }
        convolved[c] = silu(sum);
      }
      std::vector<double> selection = product(layer.value("x_proj.weight"), convolved);
      if (norms) {
        rms_normalise(selection, 0, R, layer.value("dt_norm.weight"), 1e-6);
        for (int64_t g = 0; g < G; ++g) {
          rms_normalise(selection, R + g * N, N, layer.value("B_norm.weight"), 1e-6);
          rms_normalise(selection, R + (G + g) * N, N, layer.value("C_norm.weight"), 1e-6);
        }
      }
      const std::vector<double> delta =
          product(layer.value("dt_proj.weight"), std::vector<double>(selection.begin(), selection.begin() + R));
      for (int64_t c = 0; c < d; ++c) {
        const double *B = selection.data() + R + c / (d / G) * N, *C = B + G * N;
        const double step = softplus(delta[c] + dt_bias[c].item().toDouble());
        double sum = D[c].item().toDouble() * convolved[c];
        for (int64_t n = 0; n < N; ++n) {
          const double A = -std::exp(A_log[c][n].item().toDouble());
          h[c * N + n] = std::exp(step * A) * h[c * N + n] + step * B[n] * convolved[c];
          sum += C[n] * h[c * N + n];
        }
        gated[c] = sum * silu(xz[d + c]);
      }
      const std::vector<double> out = product(layer.value("out_proj.weight"), gated);
      for (int64_t e = 0; e < width; ++e) y[b][t][e] = out[e];
    }
  }
  return y;
}

Mamba::Config small(const std::string& kernel = "fused") {
  Mamba::Config config;
  config.state = 3;
  config.kernel = kernel;
  return config;
}

TEST(MambaLayer, EqualsTheEquationsStepByStep) {
  for (const char* kernel : {"fused", "reference"}) {
    Made<Mamba> layer(small(kernel), site_of(20), at::kDouble, 0.5);
    const Tensor x = drawn({2, 7, 20}, 1);
    const Tensor y = layer->forward(x, Context::plain(2, 7, 0, x.device()), nullptr);
    EXPECT_LT(farthest(y, step_by_step(layer, x, 3, 4, 2)), 1e-11) << kernel;
  }
}

TEST(MambaLayer, GroupsAndInnerNormsEqualTheEquations) {
  for (const char* kernel : {"fused", "reference"}) {
    for (const auto& [groups, norms] : {std::pair<int64_t, bool>{1, true}, {4, false}, {4, true}}) {
      Mamba::Config config = small(kernel);
      config.groups = groups;
      config.inner_norms = norms;
      Made<Mamba> layer(config, site_of(20), at::kDouble, 0.5);
      const Tensor x = drawn({2, 7, 20}, 1);
      const Tensor y = layer->forward(x, Context::plain(2, 7, 0, x.device()), nullptr);
      EXPECT_LT(farthest(y, step_by_step(layer, x, 3, 4, 2, groups)), 1e-11) << kernel << " " << groups << " " << norms;
    }
  }
}

// Two steps of the layer with complex states and zero-order hold: the recurrence in std::complex on the layer's own
// projections.
TEST(MambaLayer, ComplexStatesAndZeroOrderHoldEqualTheEquations) {
  using Complex = std::complex<double>;
  for (const char* kernel : {"fused", "reference"}) {
    for (const bool hold : {false, true}) {
      Mamba::Config config = small(kernel);
      config.complex = true;
      config.discretisation = hold ? "zoh" : "euler";
      Made<Mamba> layer(config, site_of(20), at::kDouble, 0.5);
      const int64_t N = 3, K = 4, R = 2, d = 40;
      const Tensor x = drawn({1, 6, 20}, 1);
      const Tensor y = layer->forward(x, Context::plain(1, 6, 0, x.device()), nullptr);
      std::vector<double> window(d * K, 0.0);
      std::vector<Complex> h(d * N, 0.0);
      for (int64_t t = 0; t < 6; ++t) {
        const Tensor token = x[0][t].contiguous();
        const double* u = token.const_data_ptr<double>();
        const std::vector<double> xz = product(layer.value("in_proj.weight"), std::vector<double>(u, u + 20));
        std::vector<double> convolved(d), gated(d);
        for (int64_t c = 0; c < d; ++c) {
          double sum = layer.value("conv1d.bias")[c].item().toDouble();
          for (int64_t j = 0; j < K; ++j) {
            double& tap = window[c * K + j];
            tap = j + 1 < K ? window[c * K + j + 1] : xz[c];
            sum += tap * layer.value("conv1d.weight")[c][j].item().toDouble();
          }
          convolved[c] = silu(sum);
        }
        const std::vector<double> s = product(layer.value("x_proj.weight"), convolved);
        const std::vector<double> delta =
            product(layer.value("dt_proj.weight"), std::vector<double>(s.begin(), s.begin() + R));
        for (int64_t c = 0; c < d; ++c) {
          const double step = softplus(delta[c] + layer.value("dt_proj.bias")[c].item().toDouble());
          Complex sum = 0.0;
          for (int64_t n = 0; n < N; ++n) {
            const Complex A(-std::exp(layer.value("A_log")[c][n].item().toDouble()),
                            layer.value("A_imaginary")[c][n].item().toDouble());
            const Complex B(s[R + n], s[R + N + n]), C(s[R + 2 * N + n], s[R + 3 * N + n]), abar = std::exp(step * A);
            h[c * N + n] = abar * h[c * N + n] + (hold ? (abar - 1.0) / A : Complex(step)) * B * convolved[c];
            sum += C * h[c * N + n];
          }
          gated[c] = (2.0 * sum.real() + layer.value("D")[c].item().toDouble() * convolved[c]) * silu(xz[d + c]);
        }
        const std::vector<double> out = product(layer.value("out_proj.weight"), gated);
        for (int64_t e = 0; e < 20; ++e)
          EXPECT_NEAR(y[0][t][e].item().toDouble(), out[e], 1e-11) << kernel << hold << t;
      }
    }
  }
}

TEST(MambaLayer, ComplexStatesStartAsS4DLin) {
  Mamba::Config config;
  config.complex = true;
  Made<Mamba> layer(config, site_of(16));
  EXPECT_NEAR(layer.value("A_log").exp().max().item().toDouble(), 0.5, 1e-12);
  EXPECT_NEAR(layer.value("A_imaginary")[7][5].item().toDouble(), 5.0 * std::numbers::pi, 1e-12);
  EXPECT_EQ(layer.value("x_proj.weight").size(0), 1 + 4 * 16);
  config.state = 129;
  EXPECT_EQ(Mamba::check(config, site_of(16)).message(), "state must be at most 128 complex numbers, not 129");
}

TEST(MambaLayer, RefusesGroupsThatDoNotDivide) {
  Mamba::Config config;
  config.groups = 3;
  const absl::Status status = Mamba::check(config, site_of(20));
  EXPECT_EQ(status.message(), "the inner width 40 does not divide into groups = 3");
}

// Jamba's mixer (arXiv 2403.19887): 105,308,448 parameters at width 4,096, of which 288 are the inner norms'.
TEST(MambaLayer, JambaCountsItsInnerNorms) {
  Mamba::Config config;
  config.inner_norms = true;
  EXPECT_EQ(Mamba(config, site_of(4096)).parameters().count(), 105308448);
}

TEST(MambaLayer, PiecesEqualTheWholeAndTheStateIsAsDeclared) {
  Made<Mamba> layer(small(), site_of(20));
  expect_pieces_equal_the_whole(*layer, 20);
}

TEST(MambaLayer, PackedSequencesEqualSeparateOnes) {
  Made<Mamba> layer(small(), site_of(20));
  expect_packed_equals_separate(*layer, 20, {"ssm", "conv"});
}

TEST(MambaLayer, CountsFollowThePublishedModels) {
  for (const auto& [width, count] : {std::pair<int64_t, int64_t>{768, 3771648}, {1024, 6667264}, {2560, 41244160}}) {
    const Mamba layer(Mamba::Config(), site_of(width));
    EXPECT_EQ(layer.parameters().count() + width, count);  // the published count holds the block's norm
  }
}

TEST(MambaLayer, InitialValues) {
  Made<Mamba> layer(Mamba::Config(), site_of(128, /*blocks=*/4));
  const Tensor step = layer.value("dt_proj.bias").exp().log1p();
  EXPECT_GE(step.min().item().toDouble(), 1e-3 * (1 - 1e-9));
  EXPECT_LE(step.max().item().toDouble(), 1e-1 * (1 + 1e-9));
  EXPECT_NEAR(step.log().mean().item().toDouble(), std::log(1e-2), 0.25);  // middle of the log-uniform range
  EXPECT_NEAR(layer.value("A_log")[17][15].item().toDouble(), std::log(16.0), 1e-12);
  EXPECT_EQ(layer.value("D").min().item().toDouble(), 1.0);
  EXPECT_NEAR(layer.value("out_proj.weight").abs().max().item().toDouble(), 1.0 / 16.0 / 2.0, 1e-4);
  EXPECT_NEAR(layer.value("dt_proj.weight").abs().max().item().toDouble(), 1.0 / std::sqrt(8.0), 1e-3);
  for (const char* name : {"A_log", "D", "dt_proj.bias", "conv1d.bias"}) {
    EXPECT_FALSE(layer->parameters().find(name)->facts.weight_decay) << name;
  }
}

TEST(MambaLayer, InverseSoftplusMatchesKnownValues) {
  const std::pair<double, double> known[] = {{0.001, -6.90725524}, {0.01, -4.60016602}, {0.1, -2.25216846}};
  for (const auto& [dt, bias] : known) {
    Mamba::Config config;
    config.dt_min = config.dt_max = dt;
    Made<Mamba> layer(config, site_of(16));
    EXPECT_NEAR(layer.value("dt_proj.bias")[0].item().toDouble(), bias, 1e-8);
  }
  Mamba::Config config;  // the floor
  config.dt_min = config.dt_max = 1e-6;
  config.dt_floor = 0.001;
  Made<Mamba> layer(config, site_of(16));
  EXPECT_NEAR(layer.value("dt_proj.bias")[0].item().toDouble(), -6.90725524, 1e-8);
}

}  // namespace
}  // namespace hippodrome::mamba_layer_test
