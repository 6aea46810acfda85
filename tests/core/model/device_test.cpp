// Models on a device other than that of the data, for which the meta device stands.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include "core/inference/decoder.h"
#include "core/tensor/dropout.h"
#include "core/training/adamw.h"
#include "core/training/loss.h"
#include "tests/core/model/small_translators.h"
#include "tests/core/tensor/complete_meta_device.h"

namespace hippodrome::device_test {
namespace {

constexpr int64_t kRows = 2, kLength = 5;

Tensor ids(int64_t length) { return at::arange(kRows * length, at::kLong).remainder(7).view({kRows, length}); }
Tensor counted(int64_t length) { return at::arange(length, at::kLong).expand({kRows, length}); }

// Plain rows whose last labels are not scored; with a source where the model reads one.
Batch batch_for(const LanguageModel& model) {
  Batch batch{ids(kLength), ids(kLength).clone(), counted(kLength), false, {}, {}};
  batch.labels.slice(1, kLength - 1, kLength).fill_(kNoLabel);
  if (model.encoder()) batch.source = ids(4), batch.source_positions = counted(4);
  return batch;
}

std::unique_ptr<LanguageModel> on_meta(const std::string& toml) {
  meta_device::complete();
  auto model = small_translators::drawn(toml, at::kFloat);
  model->parameters().move_to(at::kMeta);
  return model;
}

TEST(Device, TrainingMovesWhatItReads) {
  auto models = small_translators::all();
  models.emplace_back("learned positions", "pattern = [\"attention\", \"mlp\"]\nwidth = 8\npositions = \"learned\"");
  for (const auto& [name, toml] : models) {
    SCOPED_TRACE(name);
    const auto model = on_meta("dropout = 0.25\n" + toml);
    EXPECT_TRUE(model->device().is_meta());
    model->parameters().set_requires_grad(true);
    const TrainingPass pass{.label_smoothing = 0.1, .draw = 3};
    const BatchLoss loss = batch_loss(*model, batch_for(*model), &pass, /*count_correct=*/false);
    EXPECT_EQ(loss.labels, kRows * (kLength - 1));
    loss.objective(static_cast<double>(loss.labels)).backward();
    for (const ParameterPtr& parameter : model->parameters().list()) {
      EXPECT_TRUE(parameter->value.grad().defined() && parameter->value.grad().is_meta()) << parameter->name;
    }
  }
}

TEST(Device, DecodersMoveTheirTokens) {
  for (const auto& [name, toml] : small_translators::all()) {
    SCOPED_TRACE(name);
    const auto model = on_meta(toml);
    if (model->encoder()) continue;
    Decoder decoder(*model, kRows, 3);
    EXPECT_TRUE(decoder.read(ids(kLength)).is_meta());
    const Tensor logits = decoder.read(ids(1));
    EXPECT_TRUE(logits.is_meta());
    EXPECT_EQ(logits.sizes(), at::IntArrayRef({kRows, 7}));
  }
}

TEST(Device, StatesOfASourceAreWhereItIs) {
  const at::NoGradGuard no_grad;
  for (const auto& [name, toml] : small_translators::all()) {
    SCOPED_TRACE(name);
    const auto model = on_meta(toml);
    if (!model->encoder()) continue;
    const EncodedSource source = model->encode(ids(4).to(at::kMeta), Context::plain(kRows, 4, 0, at::kMeta));
    ModelState state = model->initial_state(kRows, 3, &source);
    // Rows as a search on the host picks them.
    state = state.select(at::arange(kRows, at::kLong).repeat_interleave(3));
    for (int64_t t = 0; t < 2; ++t) {
      const Context context = Context::plain(3 * kRows, 1, t, at::kMeta);
      const Tensor token = at::arange(3 * kRows, at::kLong).view({-1, 1}).to(at::kMeta);
      EXPECT_TRUE(model->logits(model->hidden(token, context, &state)).is_meta());
    }
  }
}

TEST(Device, OptimisersKeepTheirStateBesideTheParameters) {
  const auto model = small_translators::drawn("pattern = [\"mlp\"]\nwidth = 8", at::kFloat);
  const auto saved = AdamW(model->parameters(), {}).tensors();
  model->parameters().set_requires_grad(true);
  model->parameters().move_to(at::kMeta);
  for (const ParameterPtr& parameter : model->parameters().list()) {
    EXPECT_TRUE(parameter->value.is_meta() && parameter->value.requires_grad() && parameter->value.is_leaf());
  }
  AdamW optimiser(model->parameters(), {});
  EXPECT_TRUE(optimiser.restore(saved).ok());
  for (const auto& [name, tensor] : optimiser.tensors()) EXPECT_TRUE(tensor.is_meta()) << name;
}

TEST(Device, DropoutIsOnTheDeviceOfItsInput) {
  const Tensor x = at::ones({3, 4}, at::TensorOptions().dtype(at::kBFloat16).device(at::kMeta));
  const Tensor y = dropout(x, 0.5, 1, "a");
  EXPECT_TRUE(y.is_meta());
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
}

}  // namespace
}  // namespace hippodrome::device_test
