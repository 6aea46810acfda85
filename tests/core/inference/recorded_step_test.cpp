#include "core/inference/recorded_step.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "core/inference/decoder.h"
#include "tests/core/model/toy_models.h"

namespace hippodrome {
namespace {

// The CPU, pretending to record: a replay calls the work again, on the same tensors. Counts both.
class Recorder final : public Accelerator {
 public:
  c10::Device device() const override { return c10::DeviceType::CPU; }
  std::string name() const override { return "recorder"; }
  int64_t memory_bytes() const override { return 0; }
  void synchronise() override {}
  int64_t current_bytes() const override { return 0; }
  int64_t peak_bytes() const override { return 0; }
  void reset_peak() override {}
  void set_limit(int64_t) override {}
  std::unique_ptr<RecordedWork> record(const std::function<void()>& work) override {
    ++recordings;
    return std::make_unique<Work>(work, replays);
  }

  int recordings = 0, replays = 0;

 private:
  struct Work final : RecordedWork {
    Work(std::function<void()> work, int& replays) : work(std::move(work)), replays(replays) {}
    void replay() override {
      ++replays;
      work();
    }
    std::function<void()> work;
    int& replays;
  };
};

Tensor token(int64_t rows, int64_t value) { return at::full({rows, 1}, value, at::kLong); }

TEST(RecordedStep, DecodesAsTheModelDoes) {
  auto model = toys::drawn_model("pattern = [\"mlp\", \"gated\"]\nrepeats = 2\nwidth = 8\npositions = \"sinusoidal\"");
  Recorder recorder;
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
  Recorder recorder;
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
