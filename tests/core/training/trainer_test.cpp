#include "core/training/trainer.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <gmock/gmock.h>

#include <cmath>
#include <fstream>
#include <numbers>

#include "tests/core/model/toy_models.h"
#include "tests/test_folder.h"

namespace hippodrome::trainer_test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

std::unique_ptr<Task> parity() {
  ConfigValue config;
  config.set("length", ConfigValue(int64_t{8}));
  auto task = make_task("parity", config, "tasks.parity");
  EXPECT_TRUE(task.ok());
  return std::move(*task);
}

TrainingConfig small_config() {
  TrainingConfig config;
  config.steps = 40;
  config.batch = 8;
  config.learning_rate = 3e-3;
  return config;
}

std::vector<double> losses(Trainer& trainer, int steps) {
  std::vector<double> result;
  for (int i = 0; i < steps; ++i) {
    const auto step = trainer.step();
    EXPECT_TRUE(step.ok()) << step.status();
    result.push_back(step->loss);
  }
  return result;
}

bool same_parameters(LanguageModel& a, LanguageModel& b) {
  for (const ParameterPtr& parameter : a.parameters().list()) {
    if (!at::equal(parameter->value, b.parameters().find(parameter->name)->value)) return false;
  }
  return true;
}

std::string bytes_of(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  EXPECT_TRUE(stream) << file;
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

class TrainerTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing_folder::own_folder();
    fs::remove_all(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  const std::unique_ptr<Task> task_ = parity();
  fs::path folder_;
};

TEST_F(TrainerTest, LearnsParity) {
  auto model = toys::drawn_model(toys::kToyModel, 2);
  TrainingConfig config = small_config();
  config.steps = 300;
  config.batch = 32;
  config.learning_rate = 1e-2;
  Trainer trainer(*model, *task_, config, 1);
  const std::vector<double> curve = losses(trainer, 300);
  EXPECT_NEAR(curve.front(), std::numbers::ln2, 0.1);
  EXPECT_LT(curve.back(), 0.9 * curve.front());
  EXPECT_EQ(trainer.steps_done(), 300);
  EXPECT_EQ(trainer.tokens_per_step(), 32 * 8);
  const auto evaluation = evaluate(*model, *task_, Split::kValidation, 8, 32, 4);
  ASSERT_TRUE(evaluation.ok());
  EXPECT_GT(evaluation->metric, 0.6);
}

TEST_F(TrainerTest, RepeatsBitForBit) {
  auto one = toys::drawn_model(toys::kToyModel, 2), other = toys::drawn_model(toys::kToyModel, 2);
  Trainer first(*one, *task_, small_config(), 1), second(*other, *task_, small_config(), 1);
  EXPECT_EQ(losses(first, 10), losses(second, 10));
  EXPECT_TRUE(same_parameters(*one, *other));
  auto third_model = toys::drawn_model(toys::kToyModel, 2);
  Trainer third(*third_model, *task_, small_config(), 2);
  losses(third, 10);
  EXPECT_FALSE(same_parameters(*one, *third_model)) << "another seed is other data";
}

TEST_F(TrainerTest, AccumulatesToTheSameUpdate) {
  auto whole_model = toys::drawn_model(toys::kToyModel, 2), parts_model = toys::drawn_model(toys::kToyModel, 2);
  TrainingConfig config = small_config();
  Trainer whole(*whole_model, *task_, config, 1);
  config.accumulate = 3;  // of 8 rows: 3, 3, 2
  Trainer parts(*parts_model, *task_, config, 1);
  for (int i = 0; i < 5; ++i) {
    const auto a = whole.step(), b = parts.step();
    EXPECT_NEAR(a->loss, b->loss, 1e-6);
    EXPECT_NEAR(a->gradient_norm, b->gradient_norm, 1e-5 * a->gradient_norm);
  }
  for (const ParameterPtr& parameter : whole_model->parameters().list()) {
    const Tensor difference = parameter->value.sub(parts_model->parameters().find(parameter->name)->value);
    EXPECT_LT(difference.abs().max().item().toDouble(), 1e-4) << parameter->name;
  }
  // More parts than rows are one row each.
  config.accumulate = 100;
  auto single_model = toys::drawn_model(toys::kToyModel, 2);
  Trainer single(*single_model, *task_, config, 1);
  EXPECT_TRUE(single.step().ok());
}

TEST_F(TrainerTest, TrainsInBfloat16WithFloat32Masters) {
  // A residual stream of size one: the norm of a tiny one would amplify what rounding does to gradients.
  const std::string toml = std::string(toys::kToyModel) + "tied = false\nembedding_scale = 50.0\nhead_init = \"default\"";
  auto narrow = toys::drawn_model(toml, 2), wide = toys::drawn_model(toml, 2);
  TrainingConfig config = small_config();
  Trainer exact(*wide, *task_, config, 1);
  config.dtype = "bfloat16";
  Trainer trainer(*narrow, *task_, config, 1);
  EXPECT_EQ(narrow->compute_dtype(), at::kBFloat16);
  for (int i = 0; i < 10; ++i) {
    const auto a = trainer.step(), b = exact.step();
    ASSERT_TRUE(a.ok()) << a.status();
    EXPECT_NEAR(a->loss, b->loss, 0.01);
    EXPECT_NEAR(a->gradient_norm, b->gradient_norm, 0.1 * b->gradient_norm + 0.01);
  }
  for (const ParameterPtr& parameter : narrow->parameters().list()) {
    EXPECT_EQ(parameter->value.scalar_type(), at::kFloat);
    EXPECT_TRUE(parameter->value.isfinite().all().item().toBool());
  }
}

TEST_F(TrainerTest, SaysWhenTheLossIsNotFinite) {
  auto model = toys::drawn_model(toys::kToyModel, 2);
  Trainer trainer(*model, *task_, small_config(), 1);
  {
    const at::NoGradGuard no_grad;
    model->parameters().find("final_norm.weight")->value.fill_(std::nan(""));
  }
  EXPECT_EQ(trainer.step().status().message(), "the loss is not finite at step 1: lower learning_rate, or use dtype = \"float32\"");
}

TEST_F(TrainerTest, ResumesBitForBit) {
  auto straight = toys::drawn_model(toys::kToyModel, 2);
  Trainer uninterrupted(*straight, *task_, small_config(), 1);
  const std::vector<double> expected = losses(uninterrupted, 20);
  ASSERT_TRUE(uninterrupted.save(folder_ / "straight").ok());
  {
    auto model = toys::drawn_model(toys::kToyModel, 2);
    Trainer trainer(*model, *task_, small_config(), 1);
    EXPECT_TRUE(absl::IsNotFound(trainer.restore(folder_)));
    losses(trainer, 6);
    ASSERT_TRUE(trainer.save(folder_ / "cut").ok());
    losses(trainer, 2);  // lost
  }
  auto model = toys::drawn_model(toys::kToyModel, 2);
  Trainer trainer(*model, *task_, small_config(), 1);
  ASSERT_TRUE(trainer.restore(folder_ / "cut").ok());
  EXPECT_EQ(trainer.steps_done(), 6);
  EXPECT_EQ(losses(trainer, 14), std::vector<double>(expected.begin() + 6, expected.end()));
  EXPECT_TRUE(same_parameters(*model, *straight));
  ASSERT_TRUE(trainer.save(folder_ / "cut").ok());
  for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
    EXPECT_EQ(bytes_of(folder_ / "cut/step-20" / file), bytes_of(folder_ / "straight/step-20" / file)) << file;
  }
}

TEST_F(TrainerTest, KeepsTheNewestCheckpointWhole) {
  auto model = toys::drawn_model(toys::kToyModel, 2);
  Trainer trainer(*model, *task_, small_config(), 1);
  for (int i = 0; i < 3; ++i) {
    losses(trainer, 1);
    ASSERT_TRUE(trainer.save(folder_).ok());
  }
  EXPECT_EQ(*latest_checkpoint(folder_), folder_ / "step-3");
  EXPECT_FALSE(fs::exists(folder_ / "step-2"));
  // A kill while the next one is written leaves `latest` where it was.
  fs::create_directories(folder_ / "step-4");
  std::ofstream(folder_ / "step-4/model.safetensors") << "half";
  EXPECT_EQ(*latest_checkpoint(folder_), folder_ / "step-3");
  EXPECT_TRUE(trainer.restore(folder_).ok());
  std::ofstream(folder_ / "latest") << "step-9\n";
  EXPECT_THAT(std::string(latest_checkpoint(folder_).status().message()), HasSubstr("names \"step-9\", which is not a checkpoint beside it"));
  std::ofstream(folder_ / "latest") << "../elsewhere\n";
  EXPECT_FALSE(latest_checkpoint(folder_).ok());
}

TEST_F(TrainerTest, RefusesACheckpointOfAnotherModelInOneSentence) {
  auto model = toys::drawn_model(toys::kToyModel, 2);
  Trainer trainer(*model, *task_, small_config(), 1);
  ASSERT_TRUE(trainer.save(folder_).ok());
  auto wider = toys::drawn_model("pattern = [\"gated\", \"gated\"]\nrepeats = 1\nwidth = 16\ntied = false\n[blocks.gated]\nnorm_position = \"none\"", 3);
  const absl::Status status = load_parameters(wider->parameters(), folder_ / "step-0/model.safetensors");
  EXPECT_TRUE(absl::IsDataLoss(status));
  const std::string message(status.message());
  EXPECT_THAT(message, HasSubstr("model.safetensors does not fit the model; missing: "));
  EXPECT_THAT(message, HasSubstr("blocks.1.mixer.gate.weight"));
  EXPECT_THAT(message, HasSubstr("; of another shape: embedding.weight"));
  EXPECT_THAT(message, HasSubstr("; not in the model: "));
  EXPECT_THAT(message, HasSubstr("blocks.1.mixer.in.weight"));
  EXPECT_EQ(message.find('\n'), std::string::npos);
  Trainer other(*wider, *task_, small_config(), 1);
  EXPECT_TRUE(absl::IsDataLoss(other.restore(folder_)));
}

TEST_F(TrainerTest, RefusesTheCheckpointOfAnotherSeedOrADamagedOne) {
  auto model = toys::drawn_model(toys::kToyModel, 2);
  Trainer trainer(*model, *task_, small_config(), 1);
  ASSERT_TRUE(trainer.save(folder_).ok());
  Trainer other(*model, *task_, small_config(), 2);
  EXPECT_THAT(std::string(other.restore(folder_).message()), HasSubstr("trainer.json is not the state of this trial"));
  std::ofstream(folder_ / "step-0/trainer.json") << "{";
  EXPECT_THAT(std::string(trainer.restore(folder_).message()), HasSubstr("is not the state of this trial"));
  std::ofstream(folder_ / "step-0/trainer.json") << R"({"step": 0, "seed": 1, "length": 8})";
  fs::resize_file(folder_ / "step-0/optimizer.safetensors", 100);
  EXPECT_FALSE(trainer.restore(folder_).ok());
}

TEST_F(TrainerTest, EvaluatesTheMeanOverAllLabels) {
  auto model = toys::drawn_model(toys::kToyModel, 2);
  const auto evaluation = evaluate(*model, *task_, Split::kTest, 8, 5, 3);
  ASSERT_TRUE(evaluation.ok()) << evaluation.status();
  EXPECT_EQ(evaluation->labels, 3 * 5 * 8);
  double sum = 0.0, correct = 0.0;
  const at::NoGradGuard no_grad;
  for (int64_t step = 0; step < 3; ++step) {
    const Batch batch = *task_->batch({Split::kTest, 0, step, 5, 8});
    const Tensor logits = model->logits(model->hidden(batch.tokens, Context::plain(5, 8, 0, at::kCPU), nullptr)).to(at::kDouble);
    const Tensor chosen = logits.log_softmax(-1).gather(-1, batch.labels.unsqueeze(-1));
    sum -= chosen.sum().item().toDouble();
    correct += static_cast<double>(logits.argmax(-1).eq(batch.labels).sum().item().toLong());
  }
  EXPECT_NEAR(evaluation->loss, sum / 120.0, 1e-6);
  EXPECT_DOUBLE_EQ(evaluation->metric, correct / 120.0);
}

TEST_F(TrainerTest, LossCountsLabelledPositionsOnly) {
  auto model = toys::drawn_model(toys::kToyModel, 2);
  Batch batch = *task_->batch({Split::kTrain, 1, 0, 4, 8});
  const BatchLoss all = batch_loss(*model, batch, nullptr, true);
  EXPECT_EQ(all.labels, 32);
  batch.labels = batch.labels.clone();
  batch.labels.narrow(1, 0, 6).fill_(kNoLabel);
  const BatchLoss some = batch_loss(*model, batch, nullptr, true);
  EXPECT_EQ(some.labels, 8);
  EXPECT_LE(some.correct, 8);
  EXPECT_LT(some.sum.item().toDouble(), all.sum.item().toDouble());
  batch.labels.fill_(kNoLabel);
  const BatchLoss none = batch_loss(*model, batch, nullptr, true);
  EXPECT_EQ(none.labels, 0);
  EXPECT_EQ(none.sum.item().toDouble(), 0.0);
}

}  // namespace
}  // namespace hippodrome::trainer_test
