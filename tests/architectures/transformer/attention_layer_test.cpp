#include "architectures/transformer/attention/attention.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>

#include "architectures/transformer/attention/rotary.h"
#include "tests/architectures/made_layer.h"

namespace hippodrome::attention_layer_test {
namespace {

Attention::Config grouped(const std::string& kernel = "fused") {
  Attention::Config config;
  config.heads = 4;
  config.kv_heads = 2;
  config.kernel = kernel;
  config.qkv_bias = config.output_bias = true;
  return config;
}

Tensor frequencies(int64_t head_size) { return at::tensor(rotary_frequencies(head_size, 1e4), at::kDouble); }

TEST(Rotary, MatchesKnownValuesInBothLayouts) {
  const Tensor q = at::tensor({1.0, 2.0, 3.0, 4.0}, at::kDouble).view({1, 1, 1, 4});
  const Tensor table = rotary_table(at::tensor({3}, at::kLong).view({1, 1}), frequencies(4), at::kDouble);
  const Tensor interleaved = at::tensor({-1.27223251, -1.83886499, 2.8786681, 4.08818664}, at::kDouble);
  const Tensor half = at::tensor({-1.41335252, 1.87911807, -2.82885748, 4.05819114}, at::kDouble);
  EXPECT_LT(farthest(rotate(q, table, RotaryLayout::kInterleaved).view(-1), interleaved), 1e-8);
  EXPECT_LT(farthest(rotate(q, table, RotaryLayout::kHalf).view(-1), half), 1e-8);
}

TEST(Rotary, GradientIsTheRotationBack) {
  const Tensor positions = at::arange(5).unsqueeze(0);
  const Tensor table = rotary_table(positions, frequencies(6), at::kDouble);
  for (const RotaryLayout layout : {RotaryLayout::kHalf, RotaryLayout::kInterleaved}) {
    const Tensor x = drawn({2, 5, 3, 6}, 1).requires_grad_(), other = drawn({2, 5, 3, 6}, 2);
    const Tensor y = rotate(x, table, layout);
    y.mul(other).sum().backward();
    // The rotation R is orthogonal: R(Rᵀ other) = other.
    EXPECT_LT(farthest(rotate(x.grad(), table, layout), other), 1e-12);
  }
}

// Parts of unequal head counts, as grouped keys have them, against rotations of each; the gradients too, once as
// LibTorch's graph calls them and once where they get a graph of their own.
TEST(Rotary, HeadsOfAProjectionRotateAsTheirPartsDo) {
  const Tensor table = rotary_table(at::arange(5).unsqueeze(0), frequencies(6), at::kDouble);
  for (const RotaryLayout layout : {RotaryLayout::kHalf, RotaryLayout::kInterleaved}) {
    for (const bool graph : {false, true}) {
      const Tensor projected = drawn({2, 5, (3 + 2 * 2) * 6}, 1).requires_grad_();
      const Tensor other_q = drawn({2, 5, 3, 6}, 2), other_k = drawn({2, 5, 2, 6}, 3), other_v = drawn({2, 5, 2, 6}, 4);
      const auto gradient = [&](const Tensor& q, const Tensor& k, const Tensor& v) {
        const Tensor sum = q.mul(other_q).sum().add(k.mul(other_k).sum()).add(v.mul(other_v).sum());
        return torch::autograd::grad({sum}, {projected}, {}, /*retain_graph=*/true, /*create_graph=*/graph)[0];
      };
      const auto [q, k, v] = rotate_heads(projected, 3, 2, table, layout);
      const auto parts = projected.view({2, 5, 7, 6}).split_with_sizes({3, 2, 2}, 2);
      const Tensor q_apart = rotate(parts[0], table, layout), k_apart = rotate(parts[1], table, layout);
      EXPECT_EQ(farthest(q, q_apart), 0.0);
      EXPECT_EQ(farthest(k, k_apart), 0.0);
      EXPECT_EQ(farthest(v, parts[2]), 0.0);
      EXPECT_EQ(farthest(gradient(q, k, v), gradient(q_apart, k_apart, parts[2])), 0.0);
    }
  }
}

TEST(Rotary, KeepsItsPrecisionFarOut) {
  const Tensor far = at::tensor({1000003}, at::kLong).view({1, 1});
  const Tensor table = rotary_table(far, frequencies(8), at::kFloat);
  EXPECT_NEAR(table.view(-1)[0].item().toDouble(), std::cos(1000003.0), 1e-7);
}

// Runs of consecutive positions turn on from their first; whatever the positions, the table holds their cosines and
// sines.
TEST(Rotary, TableHoldsCosinesAndSinesOfAnyPositions) {
  const Tensor own = frequencies(6);
  const Tensor run = at::arange(1'000'000, 1'000'150);
  const Tensor jumps = at::arange(150).mul(37).remainder(101).sub(1);
  const Tensor positions = at::cat({run.unsqueeze(0), jumps.unsqueeze(0)});
  const Tensor table = rotary_table(positions, own, at::kDouble);
  const Tensor angles = positions.to(at::kDouble).unsqueeze(-1).mul(own);
  // Angles of 10⁶ carry an error of 10⁻¹⁰ themselves.
  EXPECT_LT(farthest(table, at::cat({angles.cos(), angles.sin()}, -1)), 1e-10);
  EXPECT_LT(farthest(table[1], at::cat({angles.cos(), angles.sin()}, -1)[1]), 1e-13);
  // Rows that share their memory share their table; columns may be strided.
  EXPECT_EQ(rotary_table(run.expand({3, 150}), own, at::kFloat).size(0), 1);
  EXPECT_LT(farthest(rotary_table(positions.t().contiguous().t(), own, at::kDouble), table), 1e-15);
}

TEST(Rotary, FrequenciesMatchKnownValues) {
  const auto plain = rotary_frequencies(128, 1e4);
  EXPECT_NEAR(plain[1], 0.86596, 5e-6);
  EXPECT_NEAR(plain[63], 1.1548e-4, 5e-9);
  const auto scaled = rotary_frequencies(128, 1e4, {"llama3", 10.0, 1.0, 4.0, 2048.0});
  for (size_t i = 0; i <= 30; ++i) EXPECT_EQ(scaled[i], plain[i]) << i;
  EXPECT_NEAR(scaled[30], 1.3335e-2, 5e-7);
  const std::vector<double> between{1.0730e-2, 7.7785e-3, 5.6009e-3, 3.9991e-3, 2.8248e-3,
                                    1.9675e-3, 1.3449e-3, 8.9549e-4, 5.7363e-4, 3.4539e-4};
  for (size_t i = 0; i < between.size(); ++i) EXPECT_NEAR(scaled[31 + i] / between[i], 1.0, 5e-5) << 31 + i;
  for (size_t i = 41; i < 64; ++i) EXPECT_EQ(scaled[i], plain[i] / 10.0) << i;
  EXPECT_NEAR(scaled[41], 2.7384e-4, 5e-9);
  const auto linear = rotary_frequencies(128, 1e4, {"linear", 4.0});
  for (size_t i = 0; i < 64; ++i) EXPECT_EQ(linear[i], plain[i] / 4.0) << i;
}

TEST(AttentionLayer, KernelsAgree) {
  for (const int64_t kv_heads : {4, 2, 1}) {
    for (const int64_t window : {0, 1, 4, 9, 50}) {
      Attention::Config config = grouped("reference");
      config.kv_heads = kv_heads;
      config.window = window;
      config.rope_layout = window == 4 ? "half" : "interleaved";
      Made<Attention> reference(config, site_of(20));
      const Tensor x = drawn({2, 9, 20}, 1);
      const Context plain = Context::plain(2, 9, 0, x.device());
      // Padding within a sequence does not use up the window.
      const Context ragged = ragged_context({{0, 1, -1, 2, -1, 3, 4, 5, 6}, {-1, 0, 1, 2, 0, 1, -1, 2, 3}});
      for (const char* kernel : {"fused", "library"}) {
        config.kernel = kernel;
        Made<Attention> layer(config, site_of(20));
        for (const Context* context : {&plain, &ragged}) {
          EXPECT_LT(farthest(layer->forward(x, *context, nullptr), reference->forward(x, *context, nullptr)), 1e-12)
              << kernel << " " << kv_heads << " " << window;
        }
      }
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

// With a window of W, the last token depends on itself and the W - 1 before it, however many blocks lie between.
TEST(AttentionLayer, AWindowShowsThatManyTokens) {
  for (const char* kernel : {"fused", "library", "reference"}) {
    for (const int64_t window : {1, 5, 300, 700}) {
      Attention::Config config = grouped(kernel);
      config.window = window;
      Made<Attention> layer(config, site_of(8));
      Tensor x = drawn({1, 600, 8}, 1).requires_grad_();
      layer->forward(x, Context::plain(1, 600, 0, x.device()), nullptr).select(1, 599).square().sum().backward();
      const Tensor seen = x.grad().abs().sum(-1).gt(0.0).flatten();
      EXPECT_EQ(seen.sum().item().toLong(), std::min<int64_t>(window, 600)) << kernel << window;
      EXPECT_TRUE(seen[599].item().toBool());
    }
  }
}

TEST(AttentionLayer, PiecesWithACacheEqualTheWhole) {
  for (const char* kernel : {"fused", "library", "reference"}) {
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
  for (const char* kernel : {"fused", "library", "reference"}) {
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

// Who looks sees the softmax, whatever the kernel.
TEST(AttentionLayer, ReportsItsWeights) {
  struct Watcher : Observer {
    Tensor seen;
    void report(std::string_view, std::string_view what, const Tensor& value) override {
      if (what == "attention_weights") seen = value;
    }
  };
  for (const char* kernel : {"fused", "library", "reference"}) {
    Attention::Config config = grouped(kernel);
    config.window = 3;
    Made<Attention> layer(config, site_of(20));
    const Tensor x = drawn({2, 7, 20}, 1);
    Context context = Context::plain(2, 7, 0, x.device());
    Watcher watcher;
    context.observer = &watcher;
    layer->forward(x, context, nullptr);
    ASSERT_EQ(watcher.seen.sizes(), at::IntArrayRef({2, 4, 7, 7}));
    EXPECT_LT(farthest(watcher.seen.sum(-1), at::full({2, 4, 7}, 1.0, at::kDouble)), 1e-12);
    EXPECT_EQ(watcher.seen.gt(0.0).sum().item().toLong(), 2 * 4 * (1 + 2 + 5 * 3));
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
  config.head_size = 4;
  config.rope_scaling = "llama3";
  EXPECT_TRUE(Attention::check(config, site_of(16)).ok());
  config.rope_high_frequency_factor = 1.0;
  EXPECT_FALSE(Attention::check(config, site_of(16)).ok());
}

}  // namespace
}  // namespace hippodrome::attention_layer_test
