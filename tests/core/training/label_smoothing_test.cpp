#include <ATen/ops/log_softmax.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "core/training/loss.h"
#include "tests/core/model/small_translators.h"

namespace hippodrome {
namespace {

// Training descends on (1 − ε) · (−log p of the label) + ε · (mean over all tokens of −log p); what is reported stays
// plain.
TEST(LabelSmoothing, SpreadsAShareOfTheLabel) {
  const auto model = small_translators::drawn("pattern = [\"gru\"]\nrepeats = 1\nwidth = 6");
  Batch batch;
  batch.tokens = at::tensor({1, 4, 3, 2}, at::kLong).view({1, 4});
  batch.labels = at::tensor({4, 3, -1, 0}, at::kLong).view({1, 4});
  batch.positions = at::tensor({0, 1, 2, 3}, at::kLong).view({1, 4});
  const TrainingPass pass{.label_smoothing = 0.1};
  const BatchLoss loss = batch_loss(*model, batch, &pass, false), plain = batch_loss(*model, batch, nullptr, false);
  EXPECT_EQ(loss.sum.item().toDouble(), plain.sum.item().toDouble());
  EXPECT_FALSE(plain.smoothed.defined());
  const Tensor logits = model->logits(model->hidden(batch.tokens, Context::plain(1, 4, 0, at::kCPU), nullptr))[0];
  const Tensor minus_log = at::log_softmax(logits, -1).neg();
  double expected = 0.0;
  for (const auto& [t, label] : {std::pair<int64_t, int64_t>{0, 4}, {1, 3}, {3, 0}}) {
    expected += 0.9 * minus_log[t][label].item().toDouble() + 0.1 * minus_log[t].mean().item().toDouble();
  }
  EXPECT_NEAR(loss.smoothed.item().toDouble(), expected, 1e-10);
  EXPECT_NEAR(loss.objective(3.0).item().toDouble(), expected / 3.0, 1e-10);
}

}  // namespace
}  // namespace hippodrome
