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

// Caches of 262,144 tokens in 16 bit, in GiB, as tables print them: without Mistral's window.
TEST_F(Plans, CachesHaveTheirPublishedSizes) {
  const std::map<std::string, int64_t> published = {
      {"gpt2", 9},           {"llama-2-7b", 128},       {"llama-2-13b", 200},
      {"llama-2-70b", 80},   {"llama-3.1-8b", 32},      {"llama-3.1-70b", 80},
      {"llama-3.1-405b", 126}, {"llama-3.1-405b-first-upload", 252}, {"mistral-7b", 32},
      {"mixtral-8x7b", 32},  {"mixtral-8x22b", 56},     {"jamba", 4},
      {"jamba-1.5-large", 9},
  };
  for (const auto& [preset, gib] : published) {
    const Plan plan = plan_of(preset, kLongContext);
    EXPECT_EQ(plan.sequence.cache, gib * kGiB) << preset;
    EXPECT_THAT(plan_text(plan), HasSubstr(std::to_string(gib) + " GiB of KV cache (bfloat16")) << preset;
  }
  const Plan mistral = plan_of("mistral-7b", kLongContext);
  EXPECT_EQ(mistral.sequence.windowed_cache, kGiB / 2) << "of 4,096 tokens";
  EXPECT_THAT(plan_text(mistral), HasSubstr("a sliding window caps the cache at 512 MiB"));
  EXPECT_THAT(plan_of("gpt2", kLongContext).warnings, ElementsAre(HasSubstr("learned positions for 1024 tokens only")));
}

// Elements per sequence in print; ours lack a tap per channel of each convolution.
TEST_F(Plans, StatesReconcileWithPublishedOnes) {
  const std::map<std::string, int64_t> published = {
      {"mamba-130m", 737'280},     {"mamba-2.8b", 6'553'600},      {"mamba2-130m", 4'890'624},
      {"mamba2-2.7b", 43'319'296}, {"rwkv-4-169m", 46'080},        {"rwkv-4-14b", 1'024'000},
      {"jamba", 28 * 8192 * 20},
  };
  for (const auto& [preset, elements] : published) {
    const SequenceBytes sequence = plan_of(preset, {}).sequence;
    EXPECT_EQ(sequence.published_state_elements, elements) << preset;
    EXPECT_EQ(sequence.state, 4 * sequence.state_elements) << preset;
  }
  EXPECT_EQ(plan_of("mamba-2.8b", {}).break_even.tokens_published, 40);
}

TEST_F(Plans, WarnsOfWrongNamesAndTables) {
  EXPECT_THAT(plan_of("llama-2-70b", {}).warnings, IsEmpty());
  const Plan misprinted = plan_of("llama-2-70b", {}, {.overrides = {"blocks.mlp.hidden=22016"}});
  EXPECT_THAT(misprinted.warnings, ElementsAre(HasSubstr("28,672 is right")));
  EXPECT_THAT(plan_text(misprinted), HasSubstr("warning: a feed-forward width of 22,016 is LLaMA-1 65B's"));
  EXPECT_THAT(plan_of("llama-2-70b", {}, {.overrides = {"blocks.mlp.hidden=22016", "blocks.attention.kv_heads=64"}}).warnings,
              IsEmpty())
      << "that is LLaMA-1 65B";
  const Plan misnamed = plan_of("llama-3-7b", {});
  EXPECT_THAT(misnamed.warnings, ElementsAre(HasSubstr("there is no Llama 3 7B: the model meant is the 8B")));
  EXPECT_EQ(misnamed.parameters, 8'030'261'248);
}

// A folder of Hugging Face's layout needs no weights.
TEST_F(Plans, ReadsAHuggingFaceConfiguration) {
  write("config.json", R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 32000,
    "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 32, "hidden_act": "silu", "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "tie_word_embeddings": false})");
  EXPECT_EQ(plan_of(folder_.string(), {}).parameters, 6'738'415'616);
  ASSERT_EQ(run({"plan", "--model", ".", "--json"}), 0) << err();
  EXPECT_EQ(json::parse(out())["parameters"], 6'738'415'616);
}

// All weights of a mixture are held, but few are used for a token. With 256 K tokens in 8 bit Jamba fits 80 GB and Mixtral does
// not (Lieber et al. 2024, table 1 and section 3.2).
TEST_F(Plans, JambaInEightBitsFitsOneGpuWithALongContext) {
  PlanOptions options = kLongContext;
  options.memory = 80'000'000'000;
  const Plan jamba = plan_of("jamba", options), mixtral = plan_of("mixtral-8x7b", options);
  EXPECT_EQ(jamba.active_parameters, 12'110'311'296);
  EXPECT_EQ(jamba.inference[2].weights.format, "int8");
  EXPECT_TRUE(jamba.inference[2].fits);
  EXPECT_FALSE(jamba.inference[1].fits) << "in bfloat16 the weights alone take 103 GB";
  EXPECT_FALSE(mixtral.inference[2].fits);
  EXPECT_THAT(plan_text(jamba), HasSubstr("jamba with a sequence of 262,144 tokens fits 80 GB in int8, int4"));
  EXPECT_NEAR(mixtral.flops.matrices, 2.0 * (12'879'925'248.0 - 32000.0 * 4096.0), 1e7) << "norms are no matrices";
}

// A recurrent model's plan, to the byte: 24 layers, d_in 1536, 16 states, a window of 4 taps of which 3 are kept.
TEST_F(Plans, MambaBeatsGpt2sCacheFrom40Tokens) {
  const Plan plan = plan_of("mamba-130m", kLongContext);
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
  const Plan plan = plan_of("rwkv-4-169m", {});
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
  for (const std::string preset : {"transformer", "lstm", "rwkv", "s4", "s4d", "h3", "mamba", "mamba2", "jamba-tiny"}) {
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
    const auto rows = run_point(spec, everything(), cpu_accelerator());
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
