#include <gtest/gtest.h>

#include <cmath>

#include "architectures/recurrent/gru/gru.h"
#include "architectures/recurrent/lstm/lstm.h"
#include "core/layer/segments.h"
#include "tests/architectures/made_layer.h"

namespace hippodrome::recurrent_layer_test {
namespace {

// All three kernels hold one another; LibTorch's is the independent one.
template <class L>
void expect_kernels_agree(int64_t hidden) {
  const Tensor x = drawn({2, 9, 5}, 1), weights = drawn({2, 9, 5}, 2);
  std::vector<Tensor> outputs;
  for (const char* kernel : {"library", "fused", "reference"}) {
    typename L::Config config;
    config.kernel = kernel;
    config.hidden = hidden;
    Made<L> layer(config, site_of(5), at::kDouble, 0.5);
    const Tensor whole = layer->forward(x, Context::plain(2, 9, 0, x.device()), nullptr);
    State state = fresh_state(*layer, x);
    {
      const at::NoGradGuard inference;
      EXPECT_LT(farthest(in_pieces(*layer, x, {3, 1, 4, 1}, state), whole), 1e-12) << kernel;
    }
    EXPECT_EQ(state.bytes(), layer->cost({.rows = 2, .length = 1, .context = 8, .element_size = 8}).state_bytes);
    // Gradients of the output and, through the state, of what follows it.
    layer->parameters().set_requires_grad(true);
    const Tensor input = x.detach().clone().requires_grad_();
    State carried = fresh_state(*layer, x);
    in_pieces(*layer, input, {4, 5}, carried).mul(weights).sum().add(carried.get("h").sum()).backward();
    outputs.push_back(at::cat({whole.flatten(), input.grad().flatten(), layer.value("input.weight").grad().flatten(),
                               layer.value("weight_hh").grad().flatten(), layer.value("input.bias").grad().flatten()}));
  }
  EXPECT_LT(farthest(outputs[0], outputs[1]), 1e-11);
  EXPECT_LT(farthest(outputs[0], outputs[2]), 1e-11);
}

TEST(LstmLayer, KernelsAgree) { expect_kernels_agree<Lstm>(0); }
TEST(LstmLayer, KernelsAgreeWithAProjection) { expect_kernels_agree<Lstm>(7); }
TEST(GruLayer, KernelsAgree) { expect_kernels_agree<Gru>(0); }
TEST(GruLayer, KernelsAgreeWithAProjection) { expect_kernels_agree<Gru>(7); }

template <class L>
void expect_packing() {
  for (const char* kernel : {"library", "fused"}) {
    typename L::Config config;
    config.kernel = kernel;
    Made<L> layer(config, site_of(5), at::kDouble, 0.5);
    const Tensor a = drawn({1, 3, 5}, 1), b = drawn({1, 2, 5}, 2);
    const Tensor packed = at::cat({a, drawn({1, 1, 5}, 3), b}, 1);
    State state = fresh_state(*layer, packed), state_b = fresh_state(*layer, b);
    const Tensor y = run_layer(*layer, packed, ragged_context({{0, 1, 2, -1, 0, 1}}), &state);
    EXPECT_LT(farthest(y.narrow(1, 0, 3), layer->forward(a, Context::plain(1, 3, 0, a.device()), nullptr)), 1e-12);
    EXPECT_LT(farthest(y.narrow(1, 4, 2), layer->forward(b, Context::plain(1, 2, 0, b.device()), &state_b)), 1e-12);
    EXPECT_LT(farthest(state.get("h"), state_b.get("h")), 1e-12);
  }
}

TEST(LstmLayer, PackedSequencesEqualSeparateOnes) { expect_packing<Lstm>(); }
TEST(GruLayer, PackedSequencesEqualSeparateOnes) { expect_packing<Gru>(); }

TEST(LstmLayer, CountsAndInitialValues) {
  Lstm::Config config;
  config.forget_bias = 2.0;
  Made<Lstm> layer(config, site_of(64));
  EXPECT_EQ(layer->parameters().count(), 4 * 64 * (64 + 64 + 1));
  const double bound = 1.0 / 8.0;
  EXPECT_NEAR(layer.value("weight_hh").abs().max().item().toDouble(), bound, 1e-3);
  EXPECT_NEAR(layer.value("input.weight").abs().max().item().toDouble(), bound, 1e-3);
  const Tensor bias = layer.value("input.bias").view({4, 64});
  EXPECT_NEAR(bias[1].mean().item().toDouble(), 2.0, 0.05);
  EXPECT_LE(bias[0].abs().max().item().toDouble(), bound);
  EXPECT_FALSE(layer->parameters().find("input.bias")->facts.weight_decay);
  config.hidden = 32;
  EXPECT_EQ(Lstm(config, site_of(64)).parameters().count(), 4 * 32 * (64 + 32 + 1) + 32 * 64);
}

TEST(GruLayer, CountsAndInitialValues) {
  Made<Gru> layer({}, site_of(64));
  EXPECT_EQ(layer->parameters().count(), 3 * 64 * (64 + 64 + 1) + 64);
  EXPECT_NEAR(layer.value("weight_hh").abs().max().item().toDouble(), 1.0 / 8.0, 1e-3);
  EXPECT_FALSE(layer->parameters().find("bias_hn")->facts.weight_decay);
}

}  // namespace
}  // namespace hippodrome::recurrent_layer_test
