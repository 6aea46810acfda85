#include <ATen/core/grad_mode.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "architectures/rwkv/channel_mix/channel_mix.h"
#include "architectures/rwkv/time_mix/time_mix.h"
#include "tests/architectures/made_layer.h"

namespace hippodrome::rwkv_layer_test {
namespace {

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

std::vector<double> row_product(const Tensor& matrix, const std::vector<double>& x) {
  const int64_t columns = matrix.size(1);
  const double* m = matrix.const_data_ptr<double>();
  std::vector<double> y(static_cast<size_t>(matrix.size(0)), 0.0);
  for (size_t r = 0; r < y.size(); ++r) {
    for (int64_t c = 0; c < columns; ++c) y[r] += m[static_cast<int64_t>(r) * columns + c] * x[c];
  }
  return y;
}

// µ x_t + (1 - µ) x_{t-1} at token t.
std::vector<double> mixed(const Tensor& x, int64_t b, int64_t t, const Tensor& mu) {
  std::vector<double> y;
  for (int64_t c = 0; c < x.size(2); ++c) {
    const double m = mu[c].item().toDouble(), before = t > 0 ? x[b][t - 1][c].item().toDouble() : 0.0;
    y.push_back(m * x[b][t][c].item().toDouble() + (1.0 - m) * before);
  }
  return y;
}

// The paper's sums as they stand (equation 14), without a running maximum.
Tensor time_mix_by_sums(Made<RwkvTimeMix>& layer, const Tensor& x) {
  const int64_t width = x.size(2);
  Tensor y = at::zeros_like(x);
  for (int64_t b = 0; b < x.size(0); ++b) {
    std::vector<std::vector<double>> keys, values;
    for (int64_t t = 0; t < x.size(1); ++t) {
      keys.push_back(row_product(layer.value("key.weight"), mixed(x, b, t, layer.value("time_mix_k"))));
      values.push_back(row_product(layer.value("value.weight"), mixed(x, b, t, layer.value("time_mix_v"))));
      const auto r = row_product(layer.value("receptance.weight"), mixed(x, b, t, layer.value("time_mix_r")));
      std::vector<double> gated;
      for (int64_t c = 0; c < width; ++c) {
        const double w = std::exp(layer.value("time_decay")[c].item().toDouble());
        const double u = layer.value("time_first")[c].item().toDouble();
        double numerator = std::exp(u + keys[t][c]) * values[t][c], denominator = std::exp(u + keys[t][c]);
        for (int64_t i = 0; i < t; ++i) {
          const double weight = std::exp(-static_cast<double>(t - 1 - i) * w + keys[i][c]);
          numerator += weight * values[i][c];
          denominator += weight;
        }
        gated.push_back(sigmoid(r[c]) * numerator / denominator);
      }
      const auto out = row_product(layer.value("output.weight"), gated);
      for (int64_t c = 0; c < width; ++c) y[b][t][c] = out[c];
    }
  }
  return y;
}

TEST(RwkvTimeMixLayer, EqualsThePapersSums) {
  for (const char* kernel : {"fused", "reference"}) {
    Made<RwkvTimeMix> layer({.kernel = kernel}, site_of(6), at::kDouble, 0.7);
    const Tensor x = drawn({2, 7, 6}, 1);
    const Tensor y = layer->forward(x, Context::plain(2, 7, 0, x.device()), nullptr);
    EXPECT_LT(farthest(y, time_mix_by_sums(layer, x)), 1e-11) << kernel;
  }
}

TEST(RwkvChannelMixLayer, EqualsTheFormula) {
  Made<RwkvChannelMix> layer({}, site_of(6), at::kDouble, 0.7);
  const Tensor x = drawn({2, 5, 6}, 1);
  const Tensor y = layer->forward(x, Context::plain(2, 5, 0, x.device()), nullptr);
  for (int64_t b = 0; b < 2; ++b) {
    for (int64_t t = 0; t < 5; ++t) {
      auto k = row_product(layer.value("key.weight"), mixed(x, b, t, layer.value("time_mix_k")));
      for (double& element : k) element = element > 0.0 ? element * element : 0.0;
      const auto v = row_product(layer.value("value.weight"), k);
      const auto r = row_product(layer.value("receptance.weight"), mixed(x, b, t, layer.value("time_mix_r")));
      for (int64_t c = 0; c < 6; ++c) EXPECT_NEAR(y[b][t][c].item().toDouble(), sigmoid(r[c]) * v[c], 1e-11);
    }
  }
}

template <class L>
void expect_pieces_and_packing(Made<L>& layer) {
  const Tensor x = drawn({2, 9, 6}, 1);
  const Tensor whole = layer->forward(x, Context::plain(2, 9, 0, x.device()), nullptr);
  State state = fresh_state(*layer, x);
  EXPECT_LT(farthest(in_pieces(*layer, x, {3, 1, 4, 1}, state), whole), 1e-12);
  EXPECT_EQ(state.bytes(), layer->cost({.rows = 2, .length = 1, .context = 8, .element_size = 8}).state_bytes);

  const Tensor a = drawn({1, 3, 6}, 1), b = drawn({1, 2, 6}, 2);
  const Tensor packed = at::cat({a, drawn({1, 1, 6}, 3), b, drawn({1, 1, 6}, 4)}, 1);
  State state_packed = fresh_state(*layer, packed), state_b = fresh_state(*layer, b);
  const Tensor y = layer->forward(packed, ragged_context({{0, 1, 2, -1, 0, 1, -1}}), &state_packed);
  const Tensor y_a = layer->forward(a, Context::plain(1, 3, 0, a.device()), nullptr);
  const Tensor y_b = layer->forward(b, Context::plain(1, 2, 0, b.device()), &state_b);
  EXPECT_LT(farthest(y.narrow(1, 0, 3), y_a), 1e-12);
  EXPECT_LT(farthest(y.narrow(1, 4, 2), y_b), 1e-12);
  for (const auto& [name, value] : state_b.tensors()) EXPECT_LT(farthest(state_packed.get(name), value), 1e-12) << name;
}

TEST(RwkvTimeMixLayer, PiecesAndPackingEqualTheWhole) {
  Made<RwkvTimeMix> layer({}, site_of(6), at::kDouble, 0.7);
  expect_pieces_and_packing(layer);
}

// Decoding goes without graphs and copies: the same bits, and a state that later tokens do not reach into.
TEST(RwkvTimeMixLayer, WithoutGradientsTheShiftIsTheSame) {
  Made<RwkvTimeMix> layer({}, site_of(6), at::kDouble, 0.7);
  const Tensor x = drawn({2, 9, 6}, 1);
  const Tensor whole = layer->forward(x, Context::plain(2, 9, 0, x.device()), nullptr);
  State with_graph = fresh_state(*layer, x), without = fresh_state(*layer, x);
  const Tensor pieces = in_pieces(*layer, x, {3, 1, 4, 1}, with_graph);
  const at::NoGradGuard no_grad;
  EXPECT_TRUE(in_pieces(*layer, x, {3, 1, 4, 1}, without).equal(pieces));
  EXPECT_TRUE(layer->forward(x, Context::plain(2, 9, 0, x.device()), nullptr).equal(whole));
  for (const auto& [name, value] : with_graph.tensors()) EXPECT_TRUE(without.get(name).equal(value)) << name;
  Tensor next = drawn({2, 1, 6}, 2);
  layer->forward(next, Context::plain(2, 1, 9, x.device()), &without);
  const Tensor shift = without.get("shift").clone();
  next.zero_();
  EXPECT_TRUE(without.get("shift").equal(shift));
}

TEST(RwkvChannelMixLayer, PiecesAndPackingEqualTheWhole) {
  Made<RwkvChannelMix> layer({}, site_of(6), at::kDouble, 0.7);
  expect_pieces_and_packing(layer);
}

// The one-pass shift against LibTorch's operators, which the ragged path takes: values and every gradient.
TEST(RwkvChannelMixLayer, GradientsOfTheShiftAreThoseOfPlainOperators) {
  Made<RwkvChannelMix> layer({}, site_of(6), at::kDouble, 0.7);
  layer->parameters().set_requires_grad(true);
  const Tensor weights = drawn({3, 40, 6}, 2);
  std::vector<std::vector<Tensor>> gradients;
  for (const bool ragged : {false, true}) {
    const Tensor x = drawn({3, 40, 6}, 1).requires_grad_(), before = drawn({3, 6}, 3).requires_grad_();
    State state = fresh_state(*layer, x);
    state.put("shift", before);
    Context context = Context::plain(3, 40, 5, x.device());
    context.ragged = ragged;
    layer->forward(x, context, &state).mul(weights).sum().backward();
    gradients.push_back({x.grad(), before.grad()});
    for (const char* name : {"time_mix_k", "time_mix_r", "key.weight"}) {
      gradients.back().push_back(layer.value(name).grad().clone());
      layer.value(name).mutable_grad() = Tensor();
    }
  }
  for (size_t i = 0; i < gradients[0].size(); ++i) EXPECT_LT(farthest(gradients[0][i], gradients[1][i]), 1e-11) << i;
}

// The layer runs where its tensors are. Tensors of the meta device stand for a GPU's: they have no memory to read, and
// do not mix with the CPU's. The channel mix has the same shift; its ReLU has no kernel for that device.
TEST(RwkvTimeMixLayer, RunsOnOtherDevices) {
  Made<RwkvTimeMix> layer({}, site_of(6));
  layer->parameters().set_requires_grad(false);
  for (const ParameterPtr& parameter : layer->parameters().list()) parameter->value = parameter->value.to(at::kMeta);
  layer->parameters().set_requires_grad(true);
  for (const bool ragged : {false, true}) {
    const Tensor x = drawn({1, 7, 6}, 1).to(at::kMeta).requires_grad_();
    Context context = Context::plain(1, 7, 0, x.device());
    context.ragged = ragged;
    State state = fresh_state(*layer, x);
    const Tensor y = layer->forward(x, context, &state);
    EXPECT_TRUE(y.is_meta() && y.sizes() == x.sizes());
    for (const auto& [name, value] : state.tensors()) EXPECT_TRUE(value.is_meta()) << name;
    y.sum().backward();
    EXPECT_EQ(x.grad().sizes(), x.sizes());
    for (const ParameterPtr& parameter : layer->parameters().list()) {
      EXPECT_TRUE(parameter->value.grad().is_meta()) << parameter->name;
    }
  }
}

TEST(RwkvTimeMixLayer, InitialValuesMatchKnownOnes) {
  Site site = site_of(4);
  site.repeat = 1;
  site.repeats = 3;
  Made<RwkvTimeMix> layer({}, site);
  const std::pair<const char*, Tensor> known[] = {
      {"time_decay", at::tensor({-5.0, -3.18458344, -0.37228306, 3.0}, at::kDouble)},
      {"time_first", at::tensor({-1.2039728, -0.7039728, -1.7039728, -1.2039728}, at::kDouble)},
      {"time_mix_k", at::tensor({0.0, 0.39685026, 0.62996052, 0.82548181}, at::kDouble)},
      {"time_mix_v", at::tensor({0.15, 0.54685026, 0.77996052, 0.97548181}, at::kDouble)},
      {"time_mix_r", at::tensor({0.0, 0.62996052, 0.79370053, 0.9085603}, at::kDouble)},
  };
  for (const auto& [name, value] : known) EXPECT_LT(farthest(layer.value(name), value), 1e-8) << name;
  for (const char* name : {"key.weight", "receptance.weight", "output.weight"}) {
    EXPECT_EQ(layer.value(name).abs().max().item().toDouble(), 0.0) << name;
  }
  const Tensor square = layer.value("value.weight").matmul(layer.value("value.weight").t());
  EXPECT_LT(farthest(square, at::eye(4, at::kDouble)), 1e-12);
  EXPECT_EQ(layer->parameters().find("time_decay")->facts.learning_rate_scale, 2.0);
  EXPECT_EQ(layer->parameters().find("time_first")->facts.learning_rate_scale, 3.0);

  Made<RwkvChannelMix> channel({}, site);
  EXPECT_LT(farthest(channel.value("time_mix_r"), known[2].second), 1e-8);
  const Tensor key = channel.value("key.weight");  // [16, 4]: orthonormal columns times 2
  EXPECT_LT(farthest(key.t().matmul(key), at::eye(4, at::kDouble).mul(4.0)), 1e-12);
}

TEST(RwkvTimeMixLayer, AnOnlyLayerDoesNotDivideByZero) {
  Site site = site_of(4);
  site.repeats = 1;
  Made<RwkvTimeMix> layer({}, site);
  EXPECT_FALSE(layer.value("time_decay").isnan().any().item().toBool());
  EXPECT_NEAR(layer.value("time_mix_v")[2].item().toDouble(), 0.5, 1e-12);  // a = 0, b = 1
}

TEST(RwkvTimeMixLayer, BlocksCountAsPublished) {
  const int64_t D = 768;
  const RwkvTimeMix time_mix({}, site_of(D));
  const RwkvChannelMix channel_mix({}, site_of(D));
  const int64_t norms = 4 * D;
  EXPECT_EQ(time_mix.parameters().count() + channel_mix.parameters().count() + norms, 13 * D * D + 11 * D);
  // RWKV-4 169M: twelve blocks, embedding, head, and the norms before and after.
  EXPECT_EQ(12 * (13 * D * D + 11 * D) + 2 * 50277 * D + 4 * D, 169342464);
}

}  // namespace
}  // namespace hippodrome::rwkv_layer_test
