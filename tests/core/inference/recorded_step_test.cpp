#include "core/inference/recorded_step.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "core/inference/decoder.h"
#include "tests/core/model/toy_models.h"
#include "tests/core/tensor/recorder.h"

namespace hippodrome {
namespace {

Tensor token(int64_t rows, int64_t value) { return at::full({rows, 1}, value, at::kLong); }

TEST(RecordedStep, DecodesAsTheModelDoes) {
  auto model = toys::drawn_model("pattern = [\"mlp\", \"gated\"]\nrepeats = 2\nwidth = 8\npositions = \"sinusoidal\"");
  toys::Recorder recorder;
  Decoder plain(*model, 2, 0), replayed(*model, 2, 0, recorder);
  const Tensor prompt = at::zeros({2, 5}, at::kLong);
  EXPECT_TRUE(at::equal(plain.read(prompt), replayed.read(prompt)));
  for (int64_t i = 0; i < 4; ++i) {
    EXPECT_TRUE(at::equal(plain.read(token(2, i)), replayed.read(token(2, i)))) << i;
    EXPECT_EQ(replayed.position(), plain.position());
  }
  EXPECT_EQ(recorder.recordings, 1);
  EXPECT_EQ(recorder.replays, 4);
}

TEST(RecordedStep, GrowingCachesAreNotRecorded) {
  toys::Recorder recorder;
  auto growing = toys::drawn_model("pattern = [\"sum\", \"mlp\"]\nrepeats = 1\nwidth = 8");
  ModelState state = growing->initial_state(1, 4);
  EXPECT_EQ(RecordedStep::make(*growing, state, 1, recorder), nullptr);
  EXPECT_EQ(recorder.recordings, 0);
}

TEST(RecordedStep, TheCpuRecordsNothing) {
  auto model = toys::drawn_model("pattern = [\"gated\"]\nrepeats = 1\nwidth = 4");
  ModelState state = model->initial_state(1, 0);
  EXPECT_EQ(RecordedStep::make(*model, state, 1, cpu_accelerator()), nullptr);
}

}  // namespace
}  // namespace hippodrome
