#include "experiments/plan/plan.h"

#include <gmock/gmock.h>

#include <map>
#include <nlohmann/json.hpp>

#include "architectures/registry.h"
#include "core/tensor/memory_meter.h"
#include "experiments/race/trial.h"
#include "experiments/scale/point.h"
#include "tests/experiments/run_program.h"

namespace hippodrome::plan_command_test {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const Registry& everything() {
  static const Registry registry = [] {
    Registry filled;
    register_all(filled);
    return filled;
  }();
  return registry;
}

Plan plan_of(const std::string& what, const PlanOptions& options, const SubjectOptions& subject = {}) {
  auto subjects = plan_subjects(what, subject, everything());
  EXPECT_TRUE(subjects.ok()) << subjects.status();
  EXPECT_EQ(subjects->size(), 1u);
  return make_plan(subjects->front(), options);
}

std::string error_of(const std::string& what, const SubjectOptions& subject = {}) {
  return std::string(plan_subjects(what, subject, everything()).status().message());
}

constexpr int64_t kGiB = int64_t{1} << 30;
constexpr PlanOptions kLongContext = {.context = 262144};

class Plans : public testing_program::ProgramTest {};

// A recurrent model's plan, to the byte: 24 layers, d_in 1536, 16 states, a window of 4 taps of which 3 are kept.
TEST_F(Plans, MambaBeatsGpt2sCacheFrom40Tokens) {
  const Plan plan = plan_of("mamba", kLongContext, {.overrides = {"width=768", "repeats=24", "vocabulary=50280"}});
  EXPECT_EQ(plan.parameters, 129'135'360);
  EXPECT_EQ(plan.sequence.cache, 0);
  EXPECT_EQ(plan.sequence.state_elements, 24 * 1536 * (16 + 3));
  EXPECT_EQ(plan.sequence.state, 4 * plan.sequence.state_elements);
  EXPECT_EQ(plan.sequence.published_state_elements, 737'280);
  EXPECT_EQ(plan.break_even.twin.layers, 12) << "GPT-2's shape";
  EXPECT_EQ(plan.break_even.twin.cache_per_token, 36'864);
  EXPECT_EQ(plan.break_even.tokens_published, 40);
  EXPECT_EQ(plan.break_even.tokens_in_dtype, 38);
  EXPECT_EQ(plan.break_even.tokens, 76);
  EXPECT_THAT(plan_text(plan), HasSubstr("from 40 as published tables count it"));
  EXPECT_EQ(plan.inference[0].largest_context, kAnyNumber);
  EXPECT_EQ(plan_json(plan)["inference"]["float32"]["largest_context"], nullptr);
}

// Peng et al. 2023, table 2 and appendix: the printed FLOPs have the embedding free, those of the text count it.
TEST_F(Plans, RwkvsFlopsByBothConventions) {
  const Plan plan = plan_of("rwkv", {}, {.overrides = {"width=768", "repeats=12", "vocabulary=50277"}});
  const double VD = 50277.0 * 768.0, blocks = 13.0 * 768.0 * 768.0 * 12.0;
  EXPECT_EQ(plan.flops.matrices, 2.0 * (VD + blocks));
  EXPECT_NEAR(plan.flops.matrices, 2.613e8, 1e5);
  EXPECT_EQ(plan.flops.matrices_with_embedding, 2.0 * (2.0 * VD + blocks));
  EXPECT_NEAR(plan.flops.matrices_with_embedding, 3.385e8, 1e5);
}

TEST_F(Plans, ReadsRecipesTrialsAndPresets) {
  const auto recipe = write("two.toml", "[match]\nparameters = 2e5\n[[models]]\npreset = \"lstm\"\n[[models]]\npreset = \"mamba\"\n");
  auto subjects = plan_subjects(recipe.string(), {}, everything());
  ASSERT_TRUE(subjects.ok()) << subjects.status();
  ASSERT_EQ(subjects->size(), 2u);
  for (const PlanSubject& subject : *subjects) {
    EXPECT_NEAR(static_cast<double>(make_plan(subject, {}).parameters), 2e5, 4e3) << "matched as in a race: " << subject.name;
  }
  EXPECT_THAT(error_of(recipe.string(), {.overrides = {"models.0.widht=7"}}), HasSubstr("did you mean \"width\"?"));

  TrialSpec spec;
  spec.model_name = "mine";
  spec.task_name = spec.task = "parity";
  spec.model.pattern = {"gru"};
  spec.model.width = 12;
  ASSERT_TRUE(write_trial_spec(folder_, spec).ok());
  const Plan trial = plan_of(folder_.string() + "/", {});
  EXPECT_EQ(trial.name, folder_.filename().string());
  EXPECT_EQ(trial.width, 12);
  EXPECT_LT(trial.vocabulary, 10) << "the task's";

  EXPECT_EQ(plan_of("lstm", {}, {.vocabulary = 99}).vocabulary, 99);
  EXPECT_THAT(error_of("mamva"), HasSubstr("mamba"));
  EXPECT_THAT(error_of("lstm", {.overrides = {"widht=7"}}), HasSubstr("--set widht=7: unknown key \"widht\""));
  EXPECT_THAT(error_of(folder_.parent_path().string()), HasSubstr("holds no model"));
}

TEST_F(Plans, PrintsTextAndJson) {
  ASSERT_EQ(run({"plan", "transformer", "--context", "1024", "--dtype", "float32", "--memory", "64MiB"}), 0) << err();
  EXPECT_THAT(out(), HasSubstr("2 MiB of KV cache (float32, 2,048 B per token)")) << "2 layers × (k, v) × 128 × 4 bytes";
  EXPECT_THAT(out(), HasSubstr("inference in 64 MiB"));
  ASSERT_EQ(run({"plan", "transformer", "--json", "--context", "1024", "--dtype", "bfloat16"}), 0) << err();
  const json plan = json::parse(out());
  EXPECT_EQ(plan["kv_cache_bytes"], 2 * 2 * 128 * 2 * 1024);
  EXPECT_EQ(plan["state_bytes"], 0);
  EXPECT_EQ(plan["parameters"], plan["active_parameters"]);
  ASSERT_EQ(run({"plan", "lstm", "gru", "--json"}), 0) << err();
  EXPECT_EQ(json::parse(out()).size(), 2u) << "a list where there are several";
  EXPECT_EQ(run({"plan", "no-such-model"}), 2);
  EXPECT_THAT(err(), HasSubstr("no-such-model"));
  EXPECT_EQ(run({"plan"}), 2);
}

TEST_F(Plans, WhatFitsFitsJust) {
  PlanOptions options{.context = 1000, .batch = 2, .length = 100, .memory = 30'000'000};
  const Plan plan = plan_of("transformer", options);
  const InferenceFit& bfloat16 = plan.inference[1];
  const int64_t beside = bfloat16.weights.bytes + plan.sequence.state, token = plan.sequence.cache_per_token;
  EXPECT_TRUE(bfloat16.fits);
  EXPECT_LE(beside + bfloat16.largest_context * token, options.memory);
  EXPECT_GT(beside + (bfloat16.largest_context + 1) * token, options.memory);
  EXPECT_LE(bfloat16.weights.bytes + bfloat16.largest_batch * (plan.sequence.cache + plan.sequence.state), options.memory);
  EXPECT_GT(bfloat16.weights.bytes + (bfloat16.largest_batch + 1) * (plan.sequence.cache + plan.sequence.state), options.memory);
  options.batch = plan.training.largest_batch;
  EXPECT_TRUE(plan_of("transformer", options).training.fits);
  ++options.batch;
  EXPECT_FALSE(plan_of("transformer", options).training.fits);
  EXPECT_GT(plan.training.largest_batch_recomputed, plan.training.largest_batch);
}

// The peak of a training step, measured at the allocator as `hippodrome scale` does, lies within 15 % of the plan's.
TEST_F(Plans, TrainingMemoryIsWhatScaleMeasures) {
  memory_meter::install();
  for (const std::string preset : {"transformer", "lstm", "rwkv", "s4d", "mamba"}) {
    auto subjects = plan_subjects(preset, {}, everything());
    ASSERT_TRUE(subjects.ok()) << subjects.status();
    PointSpec spec;
    spec.model_name = preset;
    spec.model = subjects->front().model->config();
    spec.length = 256;
    spec.tokens_per_step = 1024;
    spec.phases = {"train"};
    spec.repeats = 1;
    spec.seconds = 0.01;
    const int64_t before = memory_meter::current_bytes();
    const auto rows = run_point(spec, everything());
    ASSERT_TRUE(rows.ok()) << rows.status();
    ASSERT_EQ(rows->front()["status"], "ok") << rows->front();
    const double measured = static_cast<double>(rows->front()["peak_bytes"].get<int64_t>() - before);
    const Plan plan = make_plan(subjects->front(), {.batch = 4, .length = 256, .dtype = "float32"});
    const double planned = static_cast<double>(plan.training.bytes.total());
    RecordProperty(preset, std::to_string(planned / measured));
    EXPECT_NEAR(planned / measured, 1.0, 0.15) << preset << ": planned " << planned << ", measured " << measured;
  }
}

}  // namespace
}  // namespace hippodrome::plan_command_test
