#include <gmock/gmock.h>

#include <algorithm>

#include "tests/experiments/run_program.h"

// Races that are killed or stopped in the middle of training, and go on as if nothing had been.
namespace hippodrome::resume_test {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing_program::ProgramTest;
using testing_program::rows_of;
using testing_program::text_of;
namespace fs = std::filesystem;

constexpr int kSteps = 400;  // seconds, so that a busy machine still finds the middle

std::string recipe_of(const std::vector<std::string>& presets) {
  std::string text = R"(
threads = 1
matmul = "mkl"
[training]
batch = 4
evaluate_every = 20
evaluate_batches = 1
test_batches = 1
checkpoint_every = 10
[[tasks]]
task = "parity"
length = 16
test_lengths = [16]
)";
  for (const std::string& preset : presets) text += "[[models]]\npreset = \"" + preset + "\"\nrepeats = 1\nwidth = 16\n";
  return text + "[models.training]\nsteps = " + std::to_string(kSteps) + "\n";
}

// What must be the same; times differ.
std::vector<std::array<double, 3>> curve_of(const json& row) {
  std::vector<std::array<double, 3>> points;
  for (const json& point : row["curve"]) points.push_back({point["step"], point["loss"], point["metric"]});
  return points;
}

class ResumeTest : public ProgramTest {
 protected:
  fs::path trial(const std::string& run, const std::string& preset) const { return folder_ / run / "trials" / ("parity-" + preset + "-1"); }

  // Runs the recipe uninterrupted, and again with an end by `signal` in the middle, then resumes and compares.
  void expect_as_if_nothing_had_been(const std::string& preset, int signal) {
    write("race.toml", recipe_of({preset}));
    ASSERT_EQ(run({"race", "race.toml", "--out", "straight"}), 0) << err();
    const pid_t race = start({"race", "race.toml", "--out", "cut"});
    const fs::path folder = trial("cut", preset), latest = folder / "checkpoints/latest";
    ASSERT_TRUE(wait_until(race, [&] { return fs::exists(latest); })) << err();
    kill(-race, signal);
    const int code = wait_for(race);
    EXPECT_EQ(code, signal == SIGKILL ? -SIGKILL : 75) << err();
    ASSERT_FALSE(fs::exists(folder / "rows.jsonl")) << "it was too fast to be stopped in the middle";
    const std::string stopped_at = text_of(latest);
    EXPECT_NE(stopped_at, "step-" + std::to_string(kSteps) + "\n");

    ASSERT_EQ(run({"race", "--resume", "cut"}), 0) << err();
    const std::string last = "checkpoints/step-" + std::to_string(kSteps);
    for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
      EXPECT_TRUE(text_of(folder / last / file) == text_of(trial("straight", preset) / last / file)) << file << " differs after a stop at " << stopped_at;
    }
    const json resumed = rows_of(folder_ / "cut/rows.jsonl", "trial").at(0), straight = rows_of(folder_ / "straight/rows.jsonl", "trial").at(0);
    EXPECT_EQ(curve_of(resumed), curve_of(straight));
    EXPECT_EQ(resumed["curve"].size(), static_cast<size_t>(kSteps / 20));
    EXPECT_EQ(resumed["by_length"], straight["by_length"]);
    EXPECT_EQ(resumed["steps"], kSteps);
  }
};

TEST_F(ResumeTest, AfterAKillIsBitForBit) { expect_as_if_nothing_had_been("lstm", SIGKILL); }

TEST_F(ResumeTest, AfterAStopIsBitForBit) {
  expect_as_if_nothing_had_been("mamba", SIGINT);
}

TEST_F(ResumeTest, RepeatsNothingThatIsFinished) {
  write("race.toml", recipe_of({"gru", "transformer"}));
  const pid_t race = start({"race", "race.toml", "--out", "run", "--set", "training.steps=20"});
  // Between the first cell and the end of the second.
  ASSERT_TRUE(wait_until(race, [&] { return fs::exists(trial("run", "transformer") / "checkpoints/latest"); })) << err();
  kill(-race, SIGKILL);
  wait_for(race);
  ASSERT_FALSE(fs::exists(trial("run", "transformer") / "rows.jsonl"));
  const auto written = [&](const std::string& preset) { return fs::last_write_time(trial("run", preset) / "rows.jsonl"); };
  const auto first = written("gru");
  ASSERT_EQ(run({"race", "--resume", "run"}), 0) << err();
  EXPECT_EQ(written("gru"), first);
  EXPECT_THAT(err(), testing::Not(HasSubstr("gru · parity")));
  const auto second = written("transformer");
  const std::string rows = text_of(trial("run", "transformer") / "rows.jsonl");
  ASSERT_EQ(run({"race", "--resume", "run"}), 0) << err();
  EXPECT_EQ(written("gru"), first);
  EXPECT_EQ(written("transformer"), second);
  EXPECT_EQ(text_of(trial("run", "transformer") / "rows.jsonl"), rows);
  EXPECT_EQ(rows_of(folder_ / "run/rows.jsonl", "trial").size(), 2u);
}

class SlowResumeTest : public ResumeTest, public testing::WithParamInterface<std::string> {};

TEST_P(SlowResumeTest, AfterAKillIsBitForBit) { expect_as_if_nothing_had_been(GetParam(), SIGKILL); }

INSTANTIATE_TEST_SUITE_P(Presets, SlowResumeTest, testing::Values("transformer", "gpt2-tiny", "gru", "rwkv", "s4d", "mamba"),
                         [](const auto& info) {
                           std::string name = info.param;  // GoogleTest takes letters, digits and _
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace hippodrome::resume_test
