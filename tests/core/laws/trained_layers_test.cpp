// What a layer keeps of its parameters (core/layer/derived.h) must follow the optimiser: between steps of training
// every layer computes what a fresh model with the same parameters does, over a sequence and token by token.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include "core/inference/decoder.h"
#include "core/model/language_model.h"
#include "core/training/adamw.h"
#include "core/training/loss.h"
#include "tests/core/laws/whole_registry.h"

namespace hippodrome::trained_layers_test {
namespace {

constexpr int64_t kVocabulary = 11, kLength = 24;

class TrainedLayers : public testing::TestWithParam<std::string> {
 protected:
  static absl::StatusOr<std::unique_ptr<LanguageModel>> model() {
    ModelConfig config;
    config.pattern = {GetParam()};
    config.repeats = 2;
    config.width = 16;
    auto made = LanguageModel::make(config, kVocabulary, "models.trained", whole_registry());
    if (made.ok()) (*made)->parameters().materialise(/*seed=*/3, at::kFloat);
    return made;
  }

  // Of a whole sequence, and behind each of its tokens.
  static std::vector<Tensor> outputs(LanguageModel& model, const Tensor& tokens) {
    const at::NoGradGuard no_grad;
    std::vector<Tensor> result = {
        model.logits(model.hidden(tokens, Context::plain(tokens.size(0), kLength, 0, at::kCPU), /*state=*/nullptr))};
    Decoder decoder(model, tokens.size(0), kLength);
    for (int64_t t = 0; t < 4; ++t) result.push_back(decoder.read(tokens.narrow(1, t, 1)));
    return result;
  }
};

TEST_P(TrainedLayers, ComputeWithTheParametersThatTheyHave) {
  const auto trained = model(), fresh = model();
  if (!trained.ok()) GTEST_SKIP() << trained.status();  // layers that need an encoder
  Batch batch;
  batch.tokens = at::arange(2 * kLength).remainder(kVocabulary).view({2, kLength});
  batch.labels = batch.tokens.roll(-1, 1);
  batch.positions = Context::plain(2, kLength, 0, at::kCPU).positions;
  Parameters& values = (*trained)->parameters();
  values.set_requires_grad(true);
  AdamW optimiser(values, {});
  for (int step = 0; step < 3; ++step) {
    const TrainingPass pass;
    const BatchLoss loss = batch_loss(**trained, batch, &pass, /*count_correct=*/false);
    loss.objective(static_cast<double>(loss.labels)).backward();
    optimiser.step(/*learning_rate=*/1e-2, /*clip_norm=*/1.0);
    for (const ParameterPtr& parameter : (*fresh)->parameters().list()) {
      const at::NoGradGuard no_grad;
      parameter->value.copy_(values.find(parameter->name)->value);
    }
    const auto got = outputs(**trained, batch.tokens), want = outputs(**fresh, batch.tokens);
    for (size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(at::equal(got[i], want[i])) << "step " << step << ", " << i;
  }
}

std::vector<std::string> layers() {
  std::vector<std::string> names;
  for (const LayerEntry& entry : whole_registry().layers()) names.push_back(entry.name);
  return names;
}
INSTANTIATE_TEST_SUITE_P(Registry, TrainedLayers, testing::ValuesIn(layers()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace hippodrome::trained_layers_test
