// Every layer on a GPU, where there is one: it keeps the laws there and computes what the CPU does, with float32 and
// bfloat16 inputs, and decodes and trains alike from recorded steps.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "core/inference/recorded_step.h"
#include "core/laws/specimen.h"
#include "core/model/language_model.h"
#include "core/tensor/accelerator.h"
#include "core/training/recorded_training.h"
#include "tests/core/laws/whole_registry.h"
#include "tests/core/tensor/recorder.h"

namespace hippodrome::gpu_laws_test {
namespace {

class Gpu : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists("/dev/nvidiactl")) GTEST_SKIP() << "this machine has no GPU";
    const auto found = find_accelerator(c10::Device(c10::DeviceType::CUDA, 0));
    ASSERT_TRUE(found.ok()) << found.status();
    gpu_ = *found;
    subject_ = {.registry = &whole_registry(), .layer = GetParam(), .config = {}, .width = 8, .device = gpu_->device()};
  }

  Accelerator* gpu_ = nullptr;
  LawSubject subject_;
};

TEST_P(Gpu, KeepsTheLaws) {
  const auto results = check_laws(subject_);
  ASSERT_TRUE(results.ok()) << results.status();
  for (const LawResult& result : *results) {
    EXPECT_TRUE(result.passed) << result.law << ": " << result.measured << " > " << result.bound << " " << result.unit
                               << ", " << result.note;
  }
}

struct Outcome {
  Tensor y;
  std::vector<Tensor> gradients;
};

Outcome run_on(LawSubject subject, at::Device device, at::ScalarType dtype) {
  subject.device = device;
  const auto layer = law_checks::make_layer(subject, at::kFloat);
  layer->parameters().set_requires_grad(true);
  const Tensor x = law_checks::random_tensor(subject, {2, 70, subject.width}, dtype, "x").requires_grad_(true);
  Outcome run;
  run.y = law_checks::run_plain(*layer, x, /*state=*/nullptr);
  const Tensor weights = law_checks::random_tensor(subject, run.y.sizes().vec(), dtype, "weights");
  run.gradients = law_checks::gradients(*layer, x, run.y, weights);
  return run;
}

TEST_P(Gpu, ComputesWhatTheCpuDoes) {
  for (const auto& [dtype, bound] : {std::pair{at::kFloat, 2e-4}, {at::kBFloat16, 6e-2}}) {
    const Outcome here = run_on(subject_, at::kCPU, dtype), there = run_on(subject_, gpu_->device(), dtype),
                  again = run_on(subject_, gpu_->device(), dtype);
    EXPECT_LT(law_checks::rms_error(there.y.to(at::kCPU), here.y), bound);
    EXPECT_TRUE(at::equal(there.y, again.y)) << "two runs differ";
    ASSERT_EQ(there.gradients.size(), here.gradients.size());
    for (size_t i = 0; i < here.gradients.size(); ++i) {
      EXPECT_LT(law_checks::rms_error(there.gradients[i].to(at::kCPU), here.gradients[i]), bound) << "gradient " << i;
      EXPECT_TRUE(at::equal(there.gradients[i], again.gradients[i])) << "two runs differ in gradient " << i;
    }
  }
}

TEST_P(Gpu, DecodesFromARecordedStep) {
  ModelConfig config;
  config.pattern = {GetParam()};
  config.repeats = 2;
  config.width = 16;
  const auto model = LanguageModel::make(config, /*vocabulary=*/11, "models.gpu", whole_registry());
  if (!model.ok()) GTEST_SKIP() << model.status();  // a layer that cannot stand alone in a decoder-only model
  (*model)->parameters().materialise(/*seed=*/3, at::TensorOptions(at::kFloat).device(gpu_->device()));
  const at::NoGradGuard no_grad;
  ModelState recorded_state = (*model)->initial_state(1, 8), plain_state = (*model)->initial_state(1, 8);
  const auto options = at::TensorOptions(at::kLong).device(gpu_->device());
  const Tensor token = at::zeros({1, 1}, options);
  const auto recorded = RecordedStep::make(**model, recorded_state, 1, *gpu_);
  const Traits traits = (*model)->blocks().front()->layer().traits();
  EXPECT_EQ(recorded != nullptr, traits.state_growth != StateGrowth::kLinear && !traits.reads_on_host);
  if (!recorded) return;
  for (int64_t position = 1; position < 6; ++position) {
    const Tensor got = recorded->run(token, position);
    const Context context = Context::plain(1, 1, position, gpu_->device());
    const Tensor want = (*model)->logits((*model)->hidden(token, context, &plain_state).select(1, 0));
    EXPECT_TRUE(at::equal(got, want)) << position;
  }
}

// A training step that is replayed against one that is executed anew each time; and what layers keep of their
// parameters must follow the replays.
TEST_P(Gpu, TrainsFromARecordedStep) {
  ModelConfig config;
  config.pattern = {GetParam()};
  config.repeats = 2;
  config.width = 16;
  constexpr int64_t kVocabulary = 11;
  const auto options = at::TensorOptions(at::kFloat).device(gpu_->device());
  const auto make = [&] {
    auto model = LanguageModel::make(config, kVocabulary, "models.gpu", whole_registry());
    if (model.ok()) (*model)->parameters().materialise(/*seed=*/3, options);
    return model;
  };
  const auto recorded_model = make(), executed_model = make(), fresh = make();
  if (!recorded_model.ok()) GTEST_SKIP() << recorded_model.status();
  Parameters &recorded_values = (*recorded_model)->parameters(), &executed_values = (*executed_model)->parameters();
  recorded_values.set_requires_grad(true);
  executed_values.set_requires_grad(true);
  AdamW recorded_optimiser(recorded_values, {}), executed_optimiser(executed_values, {});
  Batch batch;
  batch.tokens = at::arange(2 * 40).remainder(kVocabulary).view({2, 40});
  batch.labels = batch.tokens.roll(-1, 1);
  batch.positions = Context::plain(2, 40, 0, at::kCPU).positions;
  toys::Recorder executing(gpu_->device());
  const auto recorded = RecordedTraining::make(**recorded_model, recorded_optimiser, batch, {}, *gpu_),
             executed = RecordedTraining::make(**executed_model, executed_optimiser, batch, {}, executing);
  if (!recorded) GTEST_SKIP() << "the layer looks at values on the host";
  const auto logits = [&](LanguageModel& model) {
    const at::NoGradGuard no_grad;
    const Context context = Context::plain(2, 40, 0, gpu_->device());
    return model.logits(model.hidden(batch.tokens.to(gpu_->device()), context, /*state=*/nullptr));
  };
  for (int step = 0; step < 8; ++step) {
    const auto got = recorded->run(batch, 80.0, 1e-2), want = executed->run(batch, 80.0, 1e-2);
    EXPECT_NEAR(got.sum, want.sum, 1e-4 * std::abs(want.sum)) << step;
    EXPECT_NEAR(got.gradient_norm, want.gradient_norm, 1e-3 * want.gradient_norm) << step;
    for (const ParameterPtr& parameter : (*fresh)->parameters().list()) {
      const at::NoGradGuard no_grad;
      parameter->value.copy_(recorded_values.find(parameter->name)->value);
    }
    EXPECT_TRUE(at::equal(logits(**recorded_model), logits(**fresh))) << step;
  }
  EXPECT_TRUE(recorded->replays());
}

std::vector<std::string> layers() {
  std::vector<std::string> names;
  for (const LayerEntry& entry : whole_registry().layers()) names.push_back(entry.name);
  return names;
}
INSTANTIATE_TEST_SUITE_P(Registry, Gpu, testing::ValuesIn(layers()), [](const auto& info) { return info.param; });

}  // namespace
}  // namespace hippodrome::gpu_laws_test
