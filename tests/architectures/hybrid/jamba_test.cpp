#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/randint.h>
#include <gtest/gtest.h>

#include <string>

#include "core/training/trainer.h"
#include "tests/architectures/built_preset.h"

// Jamba is a pattern of registered layers; what is left to test is the whole.
namespace hippodrome::jamba_test {
namespace {

using built_preset::build;

TEST(Jamba, HasThePublishedTotalsAndActives) {
  const auto jamba = build("jamba");
  EXPECT_EQ(jamba->parameters().count(), 51'570'323'328);
  EXPECT_EQ(jamba->active_parameters(), 12'110'311'296);
  const auto large = build("jamba-1.5-large");
  EXPECT_EQ(large->parameters().count(), 398'555'145'696);
  EXPECT_EQ(large->active_parameters(), 94'149'338'592);
}

// ai21labs/Jamba-tiny-random: eight layers in two periods of four with attention at i mod 4 = 2, width 128, four
// experts.
TEST(Jamba, CountsAnotherPublishedConfig) {
  const auto tiny = build("jamba", R"(
pattern = ["mamba", "mlp", "mamba", "moe", "attention", "mlp", "mamba", "moe"]
repeats = 2
width = 128
blocks = { mamba = { dt_rank = 8 }, attention = { heads = 4, kv_heads = 2 }, moe = { experts = 4 } }
)");
  EXPECT_EQ(tiny->parameters().count(), 127'679'344);
}

// One layer in eight has a cache that grows, at 8 key-value heads of 128; the others hold a convolution's tail and a
// state.
TEST(Jamba, OneLayerInEightGrowsWithTheSequence) {
  const auto jamba = build("jamba");
  int64_t growing = 0, constant = 0;
  for (const auto& block : jamba->blocks()) {
    const StateGrowth growth = block->layer().traits().state_growth;
    growing += growth == StateGrowth::kLinear;
    constant += growth == StateGrowth::kConstant;
  }
  EXPECT_EQ(growing, 4);
  EXPECT_EQ(constant, 28);
}

TEST(Jamba, DecodesTokenByTokenWhatItReadsWhole) {
  const at::NoGradGuard inference;
  const auto model = build("jamba-tiny", "", 50);
  model->parameters().materialise(1, at::TensorOptions().dtype(at::kDouble));
  model->set_compute_dtype(at::kDouble);
  const Tensor tokens = at::randint(50, {2, 21}, at::kLong);
  const auto read = [&](int64_t start, int64_t length, ModelState* state) {
    return model->logits(
        model->hidden(tokens.narrow(1, start, length), Context::plain(2, length, start, at::kCPU), state));
  };
  const Tensor whole = read(0, 21, nullptr);
  ModelState state = model->initial_state(2, 21);
  std::vector<Tensor> parts = {read(0, 6, &state)};
  for (int64_t t = 6; t < 21; ++t) parts.push_back(read(t, 1, &state));
  EXPECT_LT(at::cat(parts, 1).sub(whole).abs().max().item().toDouble(), 1e-9 * whole.abs().max().item().toDouble());
}

TEST(Jamba, Learns) {
  const auto model = build("jamba-tiny", "width = 32", 16);
  model->parameters().materialise(1, at::TensorOptions().dtype(at::kFloat));
  ConfigValue keys;
  keys.set("vocabulary", ConfigValue(int64_t{8}));
  keys.set("length", ConfigValue(int64_t{32}));
  const auto task = make_task("induction", keys, "tasks.induction");
  ASSERT_TRUE(task.ok()) << task.status();
  TrainingConfig config;
  config.steps = 20;
  config.batch = 8;
  config.learning_rate = 1e-2;
  Trainer trainer(*model, **task, config, 1);
  double first = 0.0, last = 0.0, balance = 0.0;
  for (int step = 0; step < 20; ++step) {
    const auto done = trainer.step();
    ASSERT_TRUE(done.ok()) << done.status();
    if (step == 0) first = done->loss;
    last = done->loss;
    balance = done->auxiliary_loss;
  }
  EXPECT_LT(last, 0.9 * first);
  // Two mixtures, each at 1e-3 times a loss that is 2 when it is even.
  EXPECT_GT(balance, 2 * 1e-3 * 1.9);
  EXPECT_LT(balance, 2 * 1e-3 * 3.0);
}

}  // namespace
}  // namespace hippodrome::jamba_test
