#include "core/training/recorded_training.h"

#include <ATen/ops/ones_like.h>
#include <gtest/gtest.h>

#include "core/training/trainer.h"
#include "tests/core/model/toy_models.h"
#include "tests/core/tensor/recorder.h"

namespace hippodrome {
namespace {

std::unique_ptr<Task> task_of(const char* name) {
  auto task = make_task(name, ConfigValue(), std::string("tasks.") + name);
  EXPECT_TRUE(task.ok()) << task.status();
  return std::move(*task);
}

constexpr char kModel[] = "pattern = [\"gated\", \"mlp\"]\nrepeats = 1\nwidth = 16\n";

TrainingConfig short_training() {
  TrainingConfig config;
  config.steps = 20;
  config.batch = 4;
  config.length = 24;
  config.clip = 0.1;  // below the gradients' norm
  config.label_smoothing = 0.05;
  return config;
}

// Induction labels some positions only, so that their share is what a recording must not know.
TEST(RecordedTraining, TrainsAsTheTrainerDoes) {
  const auto task = task_of("induction");
  auto plain = toys::drawn_model(kModel, task->vocabulary()), replayed = toys::drawn_model(kModel, task->vocabulary());
  toys::Recorder recorder;
  Trainer one(*plain, *task, short_training(), 1), other(*replayed, *task, short_training(), 1, recorder);
  for (int i = 0; i < 9; ++i) {
    const auto a = one.step(), b = other.step();
    ASSERT_TRUE(a.ok() && b.ok()) << a.status() << b.status();
    EXPECT_NEAR(a->loss, b->loss, 1e-5) << i;
    EXPECT_NEAR(a->gradient_norm, b->gradient_norm, 1e-4) << i;
  }
  EXPECT_EQ(recorder.recordings, 1);
  EXPECT_EQ(recorder.replays, 6);
  for (const ParameterPtr& parameter : plain->parameters().list()) {
    const Tensor difference = parameter->value.sub(replayed->parameters().find(parameter->name)->value);
    EXPECT_LT(difference.abs().max().item().toDouble(), 1e-5) << parameter->name;
  }
}

// What is derived from parameters goes by their versions, and no code of the host runs in a replay.
TEST(RecordedTraining, EveryStepCountsAsAWrite) {
  const auto task = task_of("induction");
  auto model = toys::drawn_model(kModel, task->vocabulary());
  toys::Recorder recorder;
  Trainer trainer(*model, *task, short_training(), 1, recorder);
  const Tensor& value = model->parameters().list().front()->value;
  for (int i = 0; i < 6; ++i) {
    const auto before = value._version();
    ASSERT_TRUE(trainer.step().ok());
    EXPECT_GT(value._version(), before) << i;
  }
  EXPECT_GT(recorder.replays, 0);
}

// Records nothing, as a device does where the work breaks off amid its backward pass.
class BreaksOff final : public toys::Recorder {
 public:
  explicit BreaksOff(Parameters& parameters) : parameters_(parameters) {}
  std::unique_ptr<RecordedWork> record(const std::function<void()>&) override {
    ++recordings;
    const Tensor& value = parameters_.list().back()->value;
    value.mutable_grad() = at::ones_like(value);
    return nullptr;
  }

 private:
  Parameters& parameters_;
};

TEST(RecordedTraining, GoesOnWhereADeviceCannotRecord) {
  const auto task = task_of("induction");
  auto plain = toys::drawn_model(kModel, task->vocabulary()), other = toys::drawn_model(kModel, task->vocabulary());
  toys::Recorder recorder;
  BreaksOff broken(other->parameters());
  Trainer one(*plain, *task, short_training(), 1, recorder), two(*other, *task, short_training(), 1, broken);
  for (int i = 0; i < 7; ++i) {
    const auto a = one.step(), b = two.step();
    ASSERT_TRUE(a.ok() && b.ok()) << a.status() << b.status();
    EXPECT_EQ(a->loss, b->loss) << i;
    EXPECT_EQ(a->gradient_norm, b->gradient_norm) << i;
  }
  EXPECT_EQ(broken.recordings, 1);
  EXPECT_EQ(broken.replays, 0);
}

TEST(RecordedTraining, WhatDiffersFromStepToStepIsNotRecorded) {
  const auto task = task_of("induction");
  for (const char* key : {"dropout = 0.1\n", "positions = \"learned\"\n"}) {
    auto model = toys::drawn_model(std::string(kModel) + key, task->vocabulary());
    toys::Recorder recorder;
    Trainer trainer(*model, *task, short_training(), 1, recorder);
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(trainer.step().ok());
    EXPECT_EQ(recorder.recordings, 0) << key;
  }
}

}  // namespace
}  // namespace hippodrome
