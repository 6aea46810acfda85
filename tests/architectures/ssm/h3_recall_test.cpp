#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "architectures/registry.h"
#include "core/data/task.h"
#include "core/io/toml.h"
#include "core/model/language_model.h"
#include "core/training/trainer.h"

namespace hippodrome::h3_recall_test {
namespace {

ConfigValue table(const std::string& toml) { return *parse_toml(toml, "test"); }

// Accuracy on new rows of a small model of two such mixers after `steps` steps on the task.
double accuracy_after(int64_t steps, const std::string& name, const std::string& keys, const std::string& blocks) {
  Registry registry;
  register_all(registry);
  const auto task = make_task(name, table(keys), "tasks." + name);
  EXPECT_TRUE(task.ok()) << task.status();
  const auto config = read_config<ModelConfig>(table("repeats = 2\nwidth = 32\n" + blocks), "models");
  EXPECT_TRUE(config.ok()) << config.status();
  auto model = *LanguageModel::make(*config, (*task)->vocabulary(), "models", registry);
  model->parameters().materialise(1, at::TensorOptions().dtype(at::kFloat));
  TrainingConfig training;
  training.steps = steps;
  training.learning_rate = 1e-2;
  training.weight_decay = 0.0;
  Trainer trainer(*model, **task, training, 1);
  for (int64_t step = 0; step < steps; ++step) {
    const auto done = trainer.step();
    EXPECT_TRUE(done.ok()) << done.status();
  }
  const auto evaluation = evaluate(*model, **task, Split::kValidation, (*task)->default_length(), 64, 8);
  EXPECT_TRUE(evaluation.ok()) << evaluation.status();
  return evaluation->metric;
}

// What H3 was made for: say the symbol that followed the special token where it stood before. Chance is 1/9.
TEST(H3Recall, TwoSmallMixersLearnInductionHeads) {
  EXPECT_GT(accuracy_after(300, "induction", "vocabulary = 10\nlength = 16\ntest_lengths = [16]",
                           "pattern = [\"h3\", \"mlp\"]\n[blocks.h3]\nstate = 8\nshift_state = 4"),
            0.95);
}

}  // namespace
}  // namespace hippodrome::h3_recall_test
