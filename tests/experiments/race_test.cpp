#include <gmock/gmock.h>

#include <algorithm>

#include "tests/experiments/run_program.h"

// Whole races by the built program, as small as they go.
namespace hippodrome::race_test {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing_program::ProgramTest;
using testing_program::rows_of;
using testing_program::text_of;
namespace fs = std::filesystem;

const char kTiny[] = R"(
threads = 1
matmul = "mkl"
[training]
steps = 30
batch = 4
evaluate_every = 10
evaluate_batches = 1
test_batches = 1
checkpoint_every = 10
[[models]]
name = "attention"
pattern = ["attention", "mlp"]
repeats = 1
width = 16
[[models]]
name = "lstm"
pattern = ["lstm"]
repeats = 1
width = 16
[[tasks]]
task = "parity"
length = 16
test_lengths = [16, 32]
)";
// Apart, since a measurement waits a while for a quiet machine.
const char kScale[] = R"(
[scale]
lengths = [32, 64]
seconds = 0.05
repeats = 2
decode_tokens = 2
)";

class Races : public ProgramTest {};

TEST_F(Races, FromRecipeToReport) {
  write("tiny.toml", std::string(kTiny) + kScale);
  ASSERT_EQ(run({"race", "tiny.toml", "--out", "run"}), 0) << err();
  EXPECT_THAT(out(), HasSubstr("parity: accuracy, chance 0.500"));
  EXPECT_THAT(out(), HasSubstr("report.html"));
  const fs::path rows = folder_ / "run/rows.jsonl";
  ASSERT_EQ(rows_of(rows, "run").size(), 1u);
  const std::vector<json> trials = rows_of(rows, "trial");
  ASSERT_EQ(trials.size(), 2u);
  for (const json& trial : trials) {
    EXPECT_EQ(trial["status"], "ok");
    EXPECT_EQ(trial["steps"], 30);
    EXPECT_EQ(trial["curve"].size(), 3u);
    EXPECT_EQ(trial["by_length"].size(), 2u);
    EXPECT_GT(trial["parameters"].get<int64_t>(), 0);
    EXPECT_GT(trial["flops_per_token"].get<double>(), 0.0);
    EXPECT_GT(trial["tokens_per_second"].get<double>(), 0.0);
    EXPECT_GT(trial["peak_memory_bytes"].get<int64_t>(), 0);
    EXPECT_EQ(trial["state_length"], 1024);
    EXPECT_EQ(trial["provenance"]["threads"], 1);
    EXPECT_EQ(trial["provenance"]["matmul"], "mkl");
  }
  // A cache of 1,024 tokens of keys and values; (h, c).
  EXPECT_EQ(trials[0]["state_bytes"], 1024 * 2 * 16 * 4);
  EXPECT_EQ(trials[1]["state_bytes"], 2 * 16 * 4);
  const std::vector<json> points = rows_of(rows, "scale");
  ASSERT_EQ(points.size(), 2u * 2 * 3);
  for (const json& point : points) {
    EXPECT_EQ(point["status"], "ok") << point;
    EXPECT_FALSE(point["samples_seconds"].empty());
    EXPECT_GE(point["peak_bytes"].get<int64_t>(), point["memory"]["weights"].get<int64_t>());
  }
  EXPECT_FALSE(rows_of(rows, "slope").empty());
  const std::string report = text_of(folder_ / "run/report.html");
  EXPECT_THAT(report, HasSubstr("</html>"));
  EXPECT_THAT(report, HasSubstr("\"attention\""));
  EXPECT_TRUE(fs::exists(folder_ / "run/trials/parity-lstm-1/checkpoints/step-30/model.safetensors"));

  // What a race left is what the other commands take.
  EXPECT_EQ(run({"evaluate", "run/trials/parity-lstm-1"}), 0) << err();
  EXPECT_EQ(run({"report", "run"}), 0) << err();
  EXPECT_EQ(run({"race", "tiny.toml", "--out", "run"}), 2);
  EXPECT_THAT(err(), HasSubstr("run already holds a run: continue it with --resume, or choose another --out"));
}

TEST_F(Races, ScaleAloneTakesTheSameRecipe) {
  write("tiny.toml", std::string(kTiny) + kScale);
  ASSERT_EQ(run({"scale", "tiny.toml", "--out", "run", "--set", "scale.lengths=[32]", "--set", "scale.phases=[\"decode\"]", "--json"}), 0) << err();
  const json result = json::parse(out());
  EXPECT_EQ(result["folder"], "run");
  EXPECT_TRUE(rows_of(folder_ / "run/rows.jsonl", "trial").empty());
  EXPECT_EQ(rows_of(folder_ / "run/rows.jsonl", "scale").size(), 2u);
}

TEST_F(Races, OutOfMemoryIsARow) {
  write("tiny.toml", std::string(kTiny) + kScale);
  ASSERT_EQ(run({"race", "tiny.toml", "--out", "run", "--memory", "20MiB", "--set", "models.1.width=512", "--set", "scale.lengths=[16384]",
                 "--set", "scale.phases=[\"train\"]"}), 3) << err();
  EXPECT_THAT(err(), HasSubstr("have no result; their rows say why"));
  EXPECT_THAT(out(), HasSubstr("out_of_memory"));
  const std::vector<json> trials = rows_of(folder_ / "run/rows.jsonl", "trial");
  ASSERT_EQ(trials.size(), 2u);
  EXPECT_EQ(trials[0]["status"], "ok") << trials[0]["message"];
  EXPECT_EQ(trials[1]["status"], "out_of_memory") << trials[1]["message"];
  EXPECT_THAT(trials[1]["message"].get<std::string>(), HasSubstr("limit 20971520"));
  for (const json& point : rows_of(folder_ / "run/rows.jsonl", "scale")) {
    EXPECT_EQ(point["status"], "out_of_memory") << point;
    EXPECT_THAT(point["message"].get<std::string>(), HasSubstr("limit 20971520"));
  }
  EXPECT_TRUE(fs::exists(folder_ / "run/report.html"));
}

// The cap is for each cell; the race itself needs a little more to measure the matrix libraries.
TEST_F(Races, TheMemoryCapDoesNotEndTheRace) {
  write("tiny.toml", kTiny);
  EXPECT_EQ(run({"race", "tiny.toml", "--out", "run", "--memory", "100KB", "--matmul", "auto"}), 2);
  EXPECT_THAT(err(), HasSubstr("auto"));
  EXPECT_EQ(run({"race", "tiny.toml", "--out", "run", "--memory", "100KB", "--set", "matmul=\"auto\""}), 3) << err();
  for (const json& trial : rows_of(folder_ / "run/rows.jsonl", "trial")) EXPECT_EQ(trial["status"], "out_of_memory");
}

TEST_F(Races, WrongRecipesEndInOneSentenceAndLeaveNoRun) {
  const auto expect_refusal = [&](const std::vector<std::string>& arguments, const std::string& sentence) {
    EXPECT_EQ(run(arguments), 2);
    const std::string error = err();
    EXPECT_THAT(error, testing::StartsWith("hippodrome: "));
    EXPECT_THAT(error, HasSubstr(sentence));
    EXPECT_EQ(std::count(error.begin(), error.end(), '\n'), 1) << error;
    EXPECT_EQ(out(), "");
    EXPECT_FALSE(fs::exists(folder_ / "run/recipe.json"));
  };
  write("tiny.toml", kTiny);
  expect_refusal({"race", "nowhere.toml"}, "nowhere.toml");
  expect_refusal({"race"}, "give a recipe (experiments/recipes/ holds some) or --resume RUN_FOLDER");
  expect_refusal({"race", "--resume", "nowhere"}, "nowhere is not the folder of a run");
  expect_refusal({"race", "tiny.toml", "--set", "trainning.steps=3"}, "unknown key \"trainning\" in [recipe]; did you mean \"training\"?");
  expect_refusal({"race", "tiny.toml", "--out", "run", "--set", "models.0.pattern=[\"atention\"]"}, "no layer is called \"atention\"; did you mean \"attention\"?");
  expect_refusal({"race", "tiny.toml", "--out", "run", "--set", "tasks.0.task=\"parrity\""}, "did you mean \"parity\"?");
  expect_refusal({"race", "tiny.toml", "--out", "run", "--memory", "lots"}, "\"lots\" is not an amount of memory");
  // The folder of a refused recipe serves the corrected one.
  EXPECT_EQ(run({"race", "tiny.toml", "--out", "run", "--set", "training.steps=1"}), 0) << err();
}

// A crash is a row, and the cells after it run.
TEST_F(Races, ACrashIsARow) {
  write("tiny.toml", kTiny);
  const pid_t race = start({"race", "tiny.toml", "--out", "run", "--set", "training.steps=100000", "--set", "models.1.training={steps = 1}"});
  const fs::path record = folder_ / "run/trials/parity-attention-1/record.json";
  ASSERT_TRUE(wait_until(race, [&] { return fs::exists(record); })) << err();
  // The race's one child is the trial.
  std::ifstream children("/proc/" + std::to_string(race) + "/task/" + std::to_string(race) + "/children");
  pid_t child = 0;
  ASSERT_TRUE(children >> child);
  kill(child, SIGSEGV);
  EXPECT_EQ(wait_for(race), 3);
  const std::vector<json> trials = rows_of(folder_ / "run/rows.jsonl", "trial");
  ASSERT_EQ(trials.size(), 2u);
  EXPECT_EQ(trials[0]["status"], "failed");
  EXPECT_EQ(trials[0]["message"], "ended by signal 11");
  EXPECT_EQ(trials[1]["status"], "ok");
}

}  // namespace
}  // namespace hippodrome::race_test
