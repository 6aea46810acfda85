#include "architectures/transformer/attention/attention.h"

#include <gtest/gtest.h>

#include <cmath>

#include "architectures/transformer/attention/rotary.h"
#include "tests/architectures/made_layer.h"

namespace hippodrome::attention_layer_test {
namespace {

Attention::Config grouped(const std::string& kernel = "library") {
  Attention::Config config;
  config.heads = 4;
  config.kv_heads = 2;
  config.kernel = kernel;
  config.qkv_bias = config.output_bias = true;
  return config;
}

TEST(Rotary, MatchesKnownValuesInBothLayouts) {
  const Tensor q = at::tensor({1.0, 2.0, 3.0, 4.0}, at::kDouble).view({1, 1, 1, 4});
  const Tensor table = rotary_table(at::tensor({3}, at::kLong).view({1, 1}), 4, 1e4, at::kDouble);
  const Tensor interleaved = at::tensor({-1.27223251, -1.83886499, 2.8786681, 4.08818664}, at::kDouble);
  const Tensor half = at::tensor({-1.41335252, 1.87911807, -2.82885748, 4.05819114}, at::kDouble);
  EXPECT_LT(farthest(rotate(q, table, RotaryLayout::kInterleaved).view(-1), interleaved), 1e-8);
  EXPECT_LT(farthest(rotate(q, table, RotaryLayout::kHalf).view(-1), half), 1e-8);
}

TEST(Rotary, GradientIsTheRotationBack) {
  const Tensor positions = at::arange(5).unsqueeze(0);
  const Tensor table = rotary_table(positions, 6, 1e4, at::kDouble);
  for (const RotaryLayout layout : {RotaryLayout::kHalf, RotaryLayout::kInterleaved}) {
    const Tensor x = drawn({2, 5, 3, 6}, 1).requires_grad_(), other = drawn({2, 5, 3, 6}, 2);
    const Tensor y = rotate(x, table, layout);
    y.mul(other).sum().backward();
    // The rotation R is orthogonal: R(Rᵀ other) = other.
    EXPECT_LT(farthest(rotate(x.grad(), table, layout), other), 1e-12);
  }
}

TEST(Rotary, KeepsItsPrecisionFarOut) {
  const Tensor far = at::tensor({1000003}, at::kLong).view({1, 1});
  const Tensor table = rotary_table(far, 8, 1e4, at::kFloat);
  EXPECT_NEAR(table.view(-1)[0].item().toDouble(), std::cos(1000003.0), 1e-7);
}

TEST(AttentionLayer, LibraryEqualsReference) {
  for (const int64_t kv_heads : {4, 2, 1}) {
    for (const char* layout : {"half", "interleaved"}) {
      Attention::Config config = grouped();
      config.kv_heads = kv_heads;
      config.rope_layout = layout;
      Made<Attention> library(config, site_of(20));
      config.kernel = "reference";
      Made<Attention> reference(config, site_of(20));
      const Tensor x = drawn({2, 9, 20}, 1);
      const Context context = Context::plain(2, 9, 0, x.device());
      EXPECT_LT(farthest(library->forward(x, context, nullptr), reference->forward(x, context, nullptr)), 1e-12);
    }
  }
}

TEST(AttentionLayer, ReferenceIsTheFormula) {
  Attention::Config config;
  config.heads = 1;
  config.positions = "none";
  config.kernel = "reference";
  Made<Attention> layer(config, site_of(4));
  const Tensor x = drawn({1, 3, 4}, 1);
  const Tensor y = layer->forward(x, Context::plain(1, 3, 0, x.device()), nullptr);
  const Tensor qkv = x[0].matmul(layer.value("qkv.weight").t());
  const Tensor q = qkv.narrow(1, 0, 4), k = qkv.narrow(1, 4, 4), v = qkv.narrow(1, 8, 4);
  for (int64_t t = 0; t < 3; ++t) {
    Tensor sum = at::zeros({4}, at::kDouble), weights = at::zeros({}, at::kDouble);
    for (int64_t s = 0; s <= t; ++s) {
      const Tensor weight = q[t].dot(k[s]).div(2.0).exp();
      sum = sum.add(v[s].mul(weight));
      weights = weights.add(weight);
    }
    const Tensor expected = layer.value("out.weight").mv(sum.div(weights));
    EXPECT_LT(farthest(y[0][t], expected), 1e-12);
  }
}

TEST(AttentionLayer, PiecesWithACacheEqualTheWhole) {
  for (const char* kernel : {"library", "reference"}) {
    for (const bool gradients : {false, true}) {
      const at::AutoGradMode mode(gradients);
      Made<Attention> layer(grouped(kernel), site_of(20));
      const Tensor x = drawn({2, 9, 20}, 1);
      const Tensor whole = layer->forward(x, Context::plain(2, 9, 0, x.device()), nullptr);
      State state = fresh_state(*layer, x);
      EXPECT_LT(farthest(in_pieces(*layer, x, {3, 1, 4, 1}, state), whole), 1e-12) << kernel;
      EXPECT_EQ(state.bytes(), layer->cost({.rows = 2, .length = 1, .context = 8, .element_size = 8}).state_bytes);
    }
  }
}

// Two sequences with padding before, between and behind them, in a row of 9; the other row holds one of them.
TEST(AttentionLayer, PackedSequencesDoNotSeeEachOther) {
  for (const char* kernel : {"library", "reference"}) {
    Made<Attention> layer(grouped(kernel), site_of(20));
    const Tensor a = drawn({1, 3, 20}, 1), b = drawn({1, 3, 20}, 2);
    Tensor x = at::full({2, 9, 20}, std::nan(""), at::kDouble);
    x[0].narrow(0, 1, 3).copy_(a[0]);
    x[0].narrow(0, 5, 3).copy_(b[0]);
    x[1].narrow(0, 2, 3).copy_(a[0]);
    const Context packed = ragged_context({{-1, 0, 1, 2, -1, 0, 1, 2, -1}, {-1, -1, 0, 1, 2, -1, -1, -1, -1}});
    const Context plain = Context::plain(1, 3, 0, x.device());
    State state = fresh_state(*layer, x), state_a = fresh_state(*layer, a), state_b = fresh_state(*layer, b);
    const Tensor y = layer->forward(x, packed, &state);
    const Tensor y_a = layer->forward(a, plain, &state_a), y_b = layer->forward(b, plain, &state_b);
    EXPECT_LT(farthest(y[0].narrow(0, 1, 3), y_a[0]), 1e-12) << kernel;
    EXPECT_LT(farthest(y[0].narrow(0, 5, 3), y_b[0]), 1e-12) << kernel;
    EXPECT_LT(farthest(y[1].narrow(0, 2, 3), y_a[0]), 1e-12) << kernel;
    EXPECT_FALSE(y.isnan().any().item().toBool());

    // What is cached for padding stays hidden from the plain calls that follow, in ones and in twos.
    const Tensor next = drawn({2, 3, 20}, 3);
    const Tensor z = at::cat({layer->forward(next.narrow(1, 0, 1), Context::plain(2, 1, 3, x.device()), &state),
                              layer->forward(next.narrow(1, 1, 2), Context::plain(2, 2, 4, x.device()), &state)},
                             1);
    const Context third = Context::plain(1, 3, 3, x.device());
    EXPECT_LT(farthest(z[0], layer->forward(next.narrow(0, 0, 1), third, &state_b)[0]), 1e-12) << kernel;
    EXPECT_LT(farthest(z[1], layer->forward(next.narrow(0, 1, 1), third, &state_a)[0]), 1e-12) << kernel;
  }
}

TEST(AttentionLayer, PaddingMetLateFindsThePlainTokensBeforeIt) {
  Made<Attention> layer(grouped(), site_of(20));
  const Tensor x = drawn({1, 6, 20}, 1);
  State state = fresh_state(*layer, x), padded = fresh_state(*layer, x);
  const Tensor whole = in_pieces(*layer, x, {6}, state);
  in_pieces(*layer, x.narrow(1, 0, 3), {3}, padded);
  const Tensor gap = at::cat({x.narrow(1, 3, 1), drawn({1, 2, 20}, 2), x.narrow(1, 4, 2)}, 1);
  const Tensor y = layer->forward(gap, ragged_context({{3, -1, -1, 4, 5}}), &padded);
  EXPECT_LT(farthest(y.narrow(1, 3, 2), whole.narrow(1, 4, 2)), 1e-12);
}

TEST(AttentionLayer, CountsAndDeviationsAreGpt2s) {
  Attention::Config config;
  config.heads = 8;
  config.qkv_bias = config.output_bias = true;
  config.init = "gpt2";
  Made<Attention> layer(config, site_of(256, /*blocks=*/16), at::kFloat);
  EXPECT_EQ(layer->parameters().count(), 4 * 256 * 256 + 4 * 256);
  EXPECT_NEAR(layer.value("qkv.weight").std().item().toDouble(), 0.02, 2e-4);
  EXPECT_NEAR(layer.value("out.weight").std().item().toDouble(), 0.02 / 4.0, 1e-4);
  EXPECT_EQ(layer.value("out.bias").abs().max().item().toDouble(), 0.0);
  EXPECT_FALSE(layer->parameters().find("out.bias")->facts.weight_decay);
}

TEST(AttentionLayer, HeadSizeIsRoundedUpToEven) {
  Attention::Config config;
  config.heads = 4;
  const Attention layer(config, site_of(18));  // 4.5 -> 5 -> 6
  EXPECT_EQ(layer.parameters().count(), 4 * 18 * 24);
}

TEST(AttentionLayer, RefusesHeadsThatDoNotDivide) {
  Attention::Config config;
  config.heads = 4;
  config.kv_heads = 3;
  EXPECT_FALSE(Attention::check(config, site_of(16)).ok());
  config.kv_heads = 2;
  EXPECT_TRUE(Attention::check(config, site_of(16)).ok());
  config.head_size = 3;
  EXPECT_FALSE(Attention::check(config, site_of(16)).ok());
}

}  // namespace
}  // namespace hippodrome::attention_layer_test
