#include "architectures/ssm/h3/h3.h"

#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <cmath>
#include <complex>
#include <string>
#include <vector>

#include "architectures/registry.h"
#include "core/io/toml.h"
#include "core/model/language_model.h"
#include "tests/architectures/made_layer.h"

namespace hippodrome::h3_layer_test {
namespace {

using Complex = std::complex<double>;

H3::Config small(const std::string& kernel = "fused", int64_t head_size = 1) {
  H3::Config config;
  config.state = 6;
  config.shift_state = 5;
  config.head_size = head_size;
  config.kernel = kernel;
  return config;
}

double at2(const Tensor& t, int64_t i, int64_t j) { return t[i][j].item().toDouble(); }

// W x + b.
std::vector<double> projected(Made<H3>& layer, const std::string& name, const std::vector<double>& x) {
  const Tensor weight = layer.value(name + ".weight"), bias = layer.value(name + ".bias");
  std::vector<double> y;
  for (int64_t r = 0; r < weight.size(0); ++r) {
    y.push_back(bias[r].item().toDouble());
    for (int64_t c = 0; c < weight.size(1); ++c) y.back() += at2(weight, r, c) * x[c];
  }
  return y;
}

// The layer's equations token by token in double, written from the paper: both models as recurrences with their own
// states, an outer product of key and value a head. Shares nothing with the layer.
Tensor step_by_step(Made<H3>& layer, const Tensor& x, int64_t dh, bool bilinear = true) {
  const Tensor shift_B = layer.value("shift.B"), shift_C = layer.value("shift.C"), shift_D = layer.value("shift.D");
  const Tensor B = layer.value("B"), C = layer.value("C"), D = layer.value("D"), log_dt = layer.value("log_dt");
  const Tensor log_decay = layer.value("log_decay"), frequency = layer.value("frequency");
  const int64_t width = x.size(2), states = shift_B.size(1), heads = D.size(0), pairs = B.size(1);
  const auto complex = [&](const Tensor& t, int64_t h, int64_t n) {
    return Complex(t[h][n][0].item().toDouble(), t[h][n][1].item().toDouble());
  };
  Tensor y = at::zeros_like(x);
  for (int64_t b = 0; b < x.size(0); ++b) {
    std::vector<double> shift(width * states, 0.0);
    std::vector<Complex> ssm(heads * dh * dh * pairs, 0.0);
    for (int64_t t = 0; t < x.size(1); ++t) {
      const Tensor token = x[b][t].contiguous();
      const std::vector<double> u(token.const_data_ptr<double>(), token.const_data_ptr<double>() + width);
      const auto q = projected(layer, "q_proj", u), k = projected(layer, "k_proj", u),
                 v = projected(layer, "v_proj", u);
      std::vector<double> shifted(width), gated(width, 0.0);
      for (int64_t c = 0; c < width; ++c) {
        double* h = shift.data() + c * states;
        for (int64_t n = states - 1; n > 0; --n) h[n] = h[n - 1];
        h[0] = 0.0;
        shifted[c] = shift_D[c].item().toDouble() * k[c];
        for (int64_t n = 0; n < states; ++n) {
          h[n] += at2(shift_B, c, n) * k[c];
          shifted[c] += at2(shift_C, c, n) * h[n];
        }
      }
      for (int64_t h = 0; h < heads; ++h) {
        const double dt = std::exp(log_dt[h].item().toDouble());
        for (int64_t i = 0; i < dh; ++i) {
          for (int64_t j = 0; j < dh; ++j) {
            const double kv = shifted[h * dh + i] * v[h * dh + j];
            double s = D[h].item().toDouble() * kv;
            for (int64_t n = 0; n < pairs; ++n) {
              const Complex A(-std::exp(at2(log_decay, h, n)), at2(frequency, h, n)), half = A * dt / 2.0;
              const Complex a = bilinear ? (1.0 + half) / (1.0 - half) : std::exp(A * dt);
              const Complex c = bilinear ? dt / (1.0 - half) : (std::exp(A * dt) - 1.0) / A;
              Complex& z = ssm[((h * dh + i) * dh + j) * pairs + n];
              z = a * z + c * complex(B, h, n) * kv;
              s += 2.0 * (complex(C, h, n) * z).real();
            }
            gated[h * dh + j] += q[h * dh + i] * s;
          }
        }
      }
      const std::vector<double> out = projected(layer, "output_linear", gated);
      for (int64_t e = 0; e < width; ++e) y[b][t][e] = out[e];
    }
  }
  return y;
}

TEST(H3Layer, EqualsTheEquationsStepByStep) {
  for (const char* kernel : {"fused", "convolution", "reference"}) {
    for (const int64_t head_size : {1, 2, 4}) {
      for (const char* discretisation : {"bilinear", "zoh"}) {
        H3::Config config = small(kernel, head_size);
        config.discretisation = discretisation;
        Made<H3> layer(config, site_of(8), at::kDouble, 0.5);
        const Tensor x = drawn({2, 9, 8}, 1);
        const Tensor y = layer->forward(x, Context::plain(2, 9, 0, x.device()), nullptr);
        EXPECT_LT(farthest(y, step_by_step(layer, x, head_size, config.discretisation == "bilinear")), 1e-11)
            << kernel << " " << head_size << " " << discretisation;
      }
    }
  }
}

// The paper's reading of the layer: a shift by one and a sum over all the past make linear attention in which a value
// is stored under the key before it, which is what an induction head needs.
TEST(H3Layer, ADelayAndASumAreLinearAttentionOverTheKeyBefore) {
  const int64_t width = 6, length = 11;
  Made<H3> layer(small(), site_of(width));
  for (const char* name : {"shift.C", "shift.D", "B", "C", "D", "frequency"}) layer.value(name).zero_();
  for (const char* name : {"q_proj", "k_proj", "v_proj", "output_linear"}) {
    layer.value(std::string(name) + ".weight").zero_().diagonal().fill_(1.0);
    layer.value(std::string(name) + ".bias").zero_();
  }
  layer.value("shift.C").select(1, 1).fill_(1.0);  // B = e_1 and C = e_2: a delay by one token
  layer.value("log_decay").fill_(-60.0);           // A = 0: an integrator …
  layer.value("log_dt").fill_(std::log(0.01));
  layer.value("B").select(2, 0).select(1, 0).fill_(1.0);
  layer.value("C").select(2, 0).select(1, 0).fill_(50.0);  // … of gain 2 · 50 · 0.01 = 1
  const Tensor x = drawn({1, length, width}, 1);
  const Tensor y = layer->forward(x, Context::plain(1, length, 0, x.device()), nullptr);
  Tensor expected = at::zeros_like(x);
  for (int64_t t = 0; t < length; ++t) {
    for (int64_t s = 1; s <= t; ++s) expected[0][t].add_(x[0][t].mul(x[0][s - 1]).mul(x[0][s]));
  }
  EXPECT_LT(farthest(y, expected), 1e-11);
}

TEST(H3Layer, PiecesEqualTheWholeAndTheStateIsAsDeclared) {
  for (const int64_t head_size : {1, 4}) {
    Made<H3> layer(small("fused", head_size), site_of(20));
    const Tensor x = drawn({2, 9, 20}, 1);
    const Tensor whole = layer->forward(x, Context::plain(2, 9, 0, x.device()), nullptr);
    State state = fresh_state(*layer, x);
    EXPECT_LT(farthest(in_pieces(*layer, x, {3, 1, 4, 1}, state), whole), 1e-12);
    EXPECT_EQ(state.get("shift").sizes(), at::IntArrayRef({2, 5, 20}));
    EXPECT_EQ(state.get("ssm").sizes(), at::IntArrayRef({2, 20 * head_size, 3, 2}));
    EXPECT_EQ(state.bytes(), layer->cost({.rows = 2, .length = 1, .context = 8, .element_size = 8}).state_bytes);
  }
}

TEST(H3Layer, KernelsAgreeOnLongSequences) {
  H3::Config config;
  const Tensor x = drawn({1, 1500, 24}, 1);
  const Context context = Context::plain(1, 1500, 0, x.device());
  config.kernel = "reference";
  const Tensor expected = Made<H3>(config, site_of(24))->forward(x, context, nullptr);
  for (const char* kernel : {"fused", "convolution"}) {
    config.kernel = kernel;
    EXPECT_LT(farthest(Made<H3>(config, site_of(24))->forward(x, context, nullptr), expected), 1e-10) << kernel;
  }
}

// bfloat16 reaches the projections only: states and what lies between are float32.
TEST(H3Layer, ModelsAndStatesStayFloat32) {
  Made<H3> layer(small(), site_of(8), at::kFloat);
  const Tensor x = drawn({1, 4, 8}, 1).to(at::kBFloat16);
  State state = fresh_state(*layer, x);
  EXPECT_EQ(layer->forward(x, Context::plain(1, 4, 0, x.device()), &state).scalar_type(), at::kBFloat16);
  EXPECT_EQ(state.get("shift").scalar_type(), at::kFloat);
  EXPECT_EQ(state.get("ssm").scalar_type(), at::kFloat);
  for (const ParameterPtr& parameter : layer->parameters().list()) {
    const bool projection = parameter->name.find("proj") != std::string::npos || parameter->name.starts_with("output");
    EXPECT_EQ(parameter->facts.keep_float32, !projection) << parameter->name;
  }
}

// What is derived for decoding follows the parameters: written in place, replaced, and in another dtype.
TEST(H3Layer, DecodingSeesNewParameterValues) {
  const at::NoGradGuard inference;
  Made<H3> layer(small(), site_of(8)), fresh(small(), site_of(8));
  const Tensor x = drawn({1, 1, 8}, 1);
  const Context context = Context::plain(1, 1, 0, x.device());
  const Tensor before = layer->forward(x, context, nullptr);
  EXPECT_LT(farthest(layer->forward(x, context, nullptr), before), 1e-15);
  layer.value("C").mul_(2.0);
  layer.value("shift.D").add_(1.0);
  fresh.value("C").mul_(2.0);
  fresh.value("shift.D").add_(1.0);
  EXPECT_LT(farthest(layer->forward(x, context, nullptr), fresh->forward(x, context, nullptr)), 1e-15);
  EXPECT_GT(farthest(layer->forward(x, context, nullptr), before), 1e-3);
  layer.value("log_dt") = layer.value("log_dt").add(1.0);
  fresh.value("log_dt").add_(1.0);
  EXPECT_LT(farthest(layer->forward(x, context, nullptr), fresh->forward(x, context, nullptr)), 1e-15);
  EXPECT_EQ(layer->forward(x.to(at::kFloat), context, nullptr).scalar_type(), at::kFloat);
}

TEST(H3Layer, InitialValues) {
  H3::Config config;
  config.init = "gpt2";
  Made<H3> layer(config, site_of(256));
  const auto number = [](const Tensor& t) { return t.item().toDouble(); };
  EXPECT_EQ(number(layer.value("shift.B").select(1, 0).min()), 1.0);
  EXPECT_EQ(number(layer.value("shift.B").abs().sum()), 256.0);
  EXPECT_LE(number(layer.value("shift.C").abs().max()), 0.125);
  EXPECT_NEAR(number(layer.value("shift.C").std()), 0.125 / std::sqrt(3.0), 0.002);
  EXPECT_NEAR(number(layer.value("shift.D").std()), 1.0, 0.1);
  EXPECT_NEAR(number(layer.value("D").std()), 1.0, 0.1);
  EXPECT_GE(number(layer.value("log_dt").min()), std::log(1e-3));
  EXPECT_LE(number(layer.value("log_dt").max()), std::log(1e-1));
  EXPECT_NEAR(number(layer.value("log_dt").mean()), std::log(1e-2), 0.3);
  EXPECT_NEAR(number(layer.value("log_decay")[7][9]), std::log(0.5), 1e-12);
  EXPECT_NEAR(number(layer.value("frequency")[7][9]), 9 * M_PI, 1e-12);
  EXPECT_EQ(number(layer.value("B").select(2, 0).min()), 1.0);
  EXPECT_EQ(number(layer.value("B").select(2, 1).abs().max()), 0.0);
  EXPECT_NEAR(number(layer.value("C").square().sum(-1).mean()), 1.0, 0.05);
  EXPECT_NEAR(number(layer.value("output_linear.weight").std()), 0.02, 0.001);  // not divided by the depth
  EXPECT_EQ(number(layer.value("q_proj.bias").abs().max()), 0.0);
  for (const char* name : {"shift.B", "log_dt", "log_decay", "frequency", "B"}) {
    EXPECT_FALSE(layer->parameters().find(name)->facts.weight_decay) << name;
  }
  EXPECT_TRUE(layer->parameters().find("C")->facts.weight_decay);
}

TEST(H3Layer, RefusesStatesAndHeadsThatDoNotFit) {
  H3::Config odd, heads;
  odd.state = 5;
  heads.head_size = 3;
  EXPECT_FALSE(H3::check(odd, site_of(8)).ok());
  EXPECT_FALSE(H3::check(heads, site_of(8)).ok());
  EXPECT_TRUE(H3::check(heads, site_of(9)).ok());
}

std::unique_ptr<LanguageModel> published(const std::string& preset, const std::string& more = "") {
  Registry registry;
  register_all(registry);
  auto table = *parse_toml((*registry.preset(preset))->toml, "preset");
  if (!more.empty()) table.merge(*parse_toml(more, "test"));
  auto model = LanguageModel::make(*read_config<ModelConfig>(table, "models"), 50257, "models", registry);
  EXPECT_TRUE(model.ok()) << model.status();
  return *std::move(model);
}

// Built on the meta device, without memory. The first total is the one that the authors' own script prints.
TEST(H3Layer, PublishedModelsHaveTheirTotals) {
  EXPECT_EQ(published("h3-125m")->parameters().count(), 126387456);
  EXPECT_EQ(published("h3-355m")->parameters().count(), 361058304);
  EXPECT_EQ(published("h3-1.3b")->parameters().count(), 1326096384);
  EXPECT_EQ(published("h3-2.7b")->parameters().count(), 2670307840);
  std::string pattern;
  for (int layer = 0; layer < 32; ++layer) {
    pattern += std::string(layer == 10 || layer == 21 ? "\"attention\"" : "\"h3\"") + ", \"mlp\", ";
  }
  EXPECT_EQ(published("h3-2.7b", "pattern = [" + pattern + "]")->parameters().count(), 2671134720);
}

// 64 reals and 32 complex numbers a channel in every layer without attention: 4.33 MB.
TEST(H3Layer, ThePublishedModelsStateHasItsSize) {
  const auto model = published("h3-125m");
  int64_t bytes = 0;
  for (const auto& block : model->blocks()) {
    if (block->layer_name() == "h3") bytes += block->layer().cost({.element_size = 2}).state_bytes;
  }
  EXPECT_EQ(bytes, 11 * 768 * (64 * 4 + 32 * 8));
}

}  // namespace
}  // namespace hippodrome::h3_layer_test
