#include "architectures/transformer/mlp/mlp.h"

#include <ATen/ops/eye.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/architectures/made_layer.h"

namespace hippodrome::mlp_layer_test {
namespace {

// The activation alone: square identity matrices around it.
Tensor activated(const std::string& activation, const Tensor& x) {
  Mlp::Config config;
  config.activation = activation;
  config.hidden = x.numel();
  config.bias = false;
  Made<Mlp> layer(config, site_of(x.numel()));
  layer.value("up.weight") = at::eye(x.numel(), at::kDouble);
  layer.value("down.weight") = at::eye(x.numel(), at::kDouble);
  return layer->forward(x.view({1, 1, -1}), Context::plain(1, 1, 0, x.device()), nullptr).view(-1);
}

TEST(MlpLayer, ActivationsMatchKnownValues) {
  const Tensor x = at::tensor({-2.0, -1.0, -0.5, 0.5, 1.0, 2.0}, at::kDouble);
  const Tensor exact =
      at::tensor({-0.04550026, -0.15865525, -0.15426877, 0.34573123, 0.84134475, 1.95449974}, at::kDouble);
  const Tensor tanh =
      at::tensor({-0.04540231, -0.15880801, -0.15428599, 0.34571401, 0.84119199, 1.95459769}, at::kDouble);
  EXPECT_LT(farthest(activated("gelu", x), exact), 1e-8);
  EXPECT_LT(farthest(activated("gelu_tanh", x), tanh), 1e-8);
  EXPECT_LT(farthest(activated("relu", x), x.clamp_min(0.0)), 1e-12);
}

TEST(MlpLayer, SwigluIsTheGatedFormula) {
  Mlp::Config config;
  config.activation = "swiglu";
  config.hidden = 3;
  Made<Mlp> layer(config, site_of(2));
  const Tensor x = drawn({1, 1, 2}, 1);
  const Tensor y = layer->forward(x, Context::plain(1, 1, 0, x.device()), nullptr).view(-1);
  const auto value = [&](const char* name) { return layer.value(name); };
  const Tensor up = value("up.weight").mv(x.view(-1)).add(value("up.bias"));
  const Tensor gate = up.narrow(0, 0, 3);
  const Tensor h = gate.mul(gate.sigmoid()).mul(up.narrow(0, 3, 3));
  EXPECT_LT(farthest(y, value("down.weight").mv(h).add(value("down.bias"))), 1e-12);
}

TEST(MlpLayer, WidthsAndCountsFollowTheFormulas) {
  Mlp::Config config;
  EXPECT_EQ(Mlp(config, site_of(64)).parameters().count(), 8 * 64 * 64 + 5 * 64);  // GPT-2's, with biases
  config.activation = "swiglu";
  config.bias = false;
  EXPECT_EQ(Mlp(config, site_of(128)).hidden(), 352);  // 341.33 to a multiple of 16
  EXPECT_EQ(Mlp(config, site_of(96)).hidden(), 256);   // 8/3 of it exactly
  EXPECT_EQ(Mlp(config, site_of(128)).parameters().count(), 3 * 128 * 352);
  config.multiple = 256;
  EXPECT_EQ(Mlp(config, site_of(4096)).hidden(), 11008);  // Llama-2 7B's
  config.hidden = 100;
  EXPECT_EQ(Mlp(config, site_of(128)).hidden(), 100);
}

TEST(MlpLayer, InitialDeviations) {
  Mlp::Config config;
  config.init = "gpt2";
  Made<Mlp> gpt2(config, site_of(128, /*blocks=*/16), at::kFloat);
  EXPECT_NEAR(gpt2.value("up.weight").std().item().toDouble(), 0.02, 2e-4);
  EXPECT_NEAR(gpt2.value("down.weight").std().item().toDouble(), 0.005, 1e-4);
  config.init = "default";
  Made<Mlp> plain(config, site_of(128), at::kFloat);
  EXPECT_NEAR(plain.value("down.weight").abs().max().item().toDouble(), 1.0 / std::sqrt(512.0), 1e-4);
}

}  // namespace
}  // namespace hippodrome::mlp_layer_test
