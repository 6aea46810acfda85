#include <gtest/gtest.h>

#include <string>

#include "architectures/registry.h"
#include "core/io/toml.h"
#include "core/training/trainer.h"

// The balance loss on its way from the layer through the trainer.
namespace hippodrome::moe_training_test {
namespace {

std::unique_ptr<LanguageModel> model_with(double balance_loss) {
  Registry registry;
  register_all(registry);
  const auto table = parse_toml("pattern = [\"attention\", \"moe\"]\nrepeats = 2\nwidth = 16\n[blocks.moe]\nexperts = 4\n"
                                "hidden = 16\nbalance_loss = " + std::to_string(balance_loss), "test");
  const auto config = read_config<ModelConfig>(*table, "models");
  EXPECT_TRUE(config.ok()) << config.status();
  auto model = LanguageModel::make(*config, 4, "models", registry);
  EXPECT_TRUE(model.ok()) << model.status();
  (*model)->parameters().materialise(1, at::TensorOptions().dtype(at::kFloat));
  return std::move(*model);
}

std::unique_ptr<Task> parity() {
  ConfigValue config;
  config.set("length", ConfigValue(int64_t{8}));
  return std::move(*make_task("parity", config, "tasks.parity"));
}

Tensor router_gradient(double balance_loss, bool training) {
  const auto model = model_with(balance_loss);
  model->parameters().set_requires_grad(true);
  const Batch batch = *parity()->batch({Split::kTrain, 1, 0, 4, 8});
  const TrainingPass pass;
  batch_loss(*model, batch, training ? &pass : nullptr, false).objective(32.0).backward();
  return model->parameters().find("blocks.1.mixer.router.weight")->value.grad().clone();
}

TEST(MoeTraining, TheBalanceLossReachesTheRouterInTrainingOnly) {
  const Tensor without = router_gradient(0.0, true), with = router_gradient(1.0, true), evaluated = router_gradient(1.0, false);
  EXPECT_GT(with.sub(without).abs().max().item().toDouble(), 1e-4);
  EXPECT_EQ(evaluated.sub(without).abs().max().item().toDouble(), 0.0);
}

TEST(MoeTraining, TheTrainerRecordsItApart) {
  const auto task = parity();
  TrainingConfig config;
  config.batch = 6;
  const auto plain = model_with(0.0), balanced = model_with(0.5), in_parts = model_with(0.5);
  Trainer without(*plain, *task, config, 1), with(*balanced, *task, config, 1);
  config.accumulate = 3;
  Trainer parts(*in_parts, *task, config, 1);
  const auto a = without.step(), b = with.step(), c = parts.step();
  ASSERT_TRUE(a.ok() && b.ok() && c.ok());
  EXPECT_EQ(a->auxiliary_loss, 0.0);
  EXPECT_EQ(a->loss, b->loss) << "the model's own loss, before the update, is the same";
  // Two layers, each at 0.5 · K or above, when tokens are many; parts see fewer tokens, hence about the same.
  EXPECT_GE(b->auxiliary_loss, 2 * 0.5 * 2.0 * 0.95);
  EXPECT_LT(b->auxiliary_loss, 2 * 0.5 * 4.0);
  EXPECT_NEAR(c->auxiliary_loss, b->auxiliary_loss, 0.2 * b->auxiliary_loss);
  EXPECT_NE(a->gradient_norm, b->gradient_norm);
}

TEST(MoeTraining, Learns) {
  const auto task = parity();
  const auto model = model_with(1e-2);
  TrainingConfig config;
  config.steps = 60;
  config.batch = 16;
  config.learning_rate = 1e-2;
  Trainer trainer(*model, *task, config, 1);
  double first = 0.0, last = 0.0;
  for (int step = 0; step < 60; ++step) {
    const auto done = trainer.step();
    ASSERT_TRUE(done.ok()) << done.status();
    if (step == 0) first = done->loss;
    last = done->loss;
  }
  EXPECT_LT(last, 0.9 * first);
}

}  // namespace
}  // namespace hippodrome::moe_training_test
