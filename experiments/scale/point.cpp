#include "experiments/scale/point.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

#include "core/base/random.h"
#include "core/inference/recorded_step.h"
#include "core/io/atomic_file.h"
#include "core/io/json_config.h"
#include "core/measure/neighbours.h"
#include "core/measure/provenance.h"
#include "core/measure/timing.h"
#include "core/training/adamw.h"
#include "core/training/loss.h"
#include "core/training/recorded_training.h"

namespace hippodrome {

using nlohmann::json;

namespace {

constexpr uint64_t kSeed = 1;
// How long a phase waits for other processes to calm down before it measures all the same, and says so in its row.
constexpr double kQuietSeconds = 2.0;

Tensor random_tokens(int64_t rows, int64_t length, int64_t vocabulary, at::Device device) {
  Tensor tokens = at::empty({rows, length}, at::kLong);
  RandomStream stream(kSeed, "scale tokens");
  int64_t* data = tokens.mutable_data_ptr<int64_t>();
  for (int64_t i = 0; i < tokens.numel(); ++i) data[i] = stream.below(vocabulary);
  return tokens.to(device);
}

// What one phase found.
struct Measured {
  Timing timing;
  int64_t batch = 1;
  double tokens = 0.0;  // per sample
  int64_t peak = 0;
  json memory;            // the peak's parts in bytes
  double others = 0.0;    // cores that other processes used meanwhile
  bool recorded = false;  // whether a recorded step was replayed
};

// What of the peak is known; the rest is workspace.
struct MemoryParts {
  int64_t weights = 0, gradients = 0, optimizer = 0;
  int64_t activations = 0;  // kept for backward
  int64_t state = 0;
};

// Runs one phase's work until it settles, and takes samples. `parts` is asked for afterwards. A recording allocates when
// it is made and not when it is replayed: its peak is that of the warm-up, which the caller begins by a reset.
Measured measure_phase(const PointSpec& spec, Accelerator& accelerator, const std::function<void()>& work,
                       const std::function<MemoryParts()>& parts, bool recorded = false) {
  Measured result;
  result.recorded = recorded;
  TimingOptions options;
  options.repeats = static_cast<int>(spec.repeats);
  options.time_limit = spec.seconds;
  wait_for_quiet(/*cores=*/0.2, /*seconds=*/kQuietSeconds);
  NeighbourWatch watch;
  if (!recorded) accelerator.reset_peak();
  const auto done_work = [&] {
    work();
    accelerator.synchronise();
  };
  result.timing = measure_time(done_work, options, [&] {
    if (!recorded) accelerator.reset_peak();
    watch.restart();
  });
  result.others = watch.cores();
  result.peak = accelerator.peak_bytes();
  const MemoryParts known = parts();
  result.memory = {{"weights", known.weights},
                   {"gradients", known.gradients},
                   {"optimizer", known.optimizer},
                   {"activations", known.activations},
                   {"state", known.state}};
  return result;
}

int64_t parameter_bytes(LanguageModel& model) {
  int64_t total = 0;
  for (const ParameterPtr& parameter : model.parameters().list())
    total += static_cast<int64_t>(parameter->value.nbytes());
  return total;
}

Measured measure_training(const PointSpec& spec, LanguageModel& model, Accelerator& accelerator) {
  model.parameters().set_requires_grad(true);
  AdamW optimiser(model.parameters(), {});
  const int64_t rows = std::max<int64_t>(1, spec.tokens_per_step / spec.length);
  Batch batch;
  batch.tokens = random_tokens(rows, spec.length, spec.vocabulary, at::kCPU);
  batch.labels = batch.tokens.roll(-1, 1);
  batch.positions = Context::plain(rows, spec.length, 0, at::kCPU).positions;
  if (model.encoder()) {  // pairs of equal lengths
    batch.source = random_tokens(rows, spec.length, spec.vocabulary, at::kCPU);
    batch.source_positions = batch.positions;
  }
  int64_t activations = 0;
  accelerator.reset_peak();
  const auto recorded = RecordedTraining::make(model, optimiser, batch, {}, accelerator);
  const auto step = [&] {
    if (recorded) {
      recorded->run(batch, static_cast<double>(batch.labels.numel()), /*learning_rate=*/1e-5);
      activations = recorded->activation_bytes();
      return;
    }
    const TrainingPass pass;
    const int64_t before = accelerator.current_bytes();
    const BatchLoss loss = batch_loss(model, batch, &pass, /*count_correct=*/false);
    activations = accelerator.current_bytes() - before;
    loss.objective(static_cast<double>(loss.labels)).backward();
    optimiser.step(/*learning_rate=*/1e-5, /*clip_norm=*/1.0);
  };
  // Executing and recording take longer than what is measured.
  while (recorded && !recorded->settled()) step();
  const int64_t weights = parameter_bytes(model);
  Measured result = measure_phase(spec, accelerator, step, [&] {
    return MemoryParts{.weights = weights, .gradients = weights, .optimizer = 2 * weights, .activations = activations};
  }, recorded != nullptr);
  result.recorded = recorded && recorded->replays();
  result.batch = rows;
  result.tokens = static_cast<double>(rows * spec.length * (model.encoder() ? 2 : 1));
  model.parameters().set_requires_grad(false);
  return result;
}

// The state behind a sequence that was read, and the position of the next token: a prompt, or an encoder's source.
struct Prompt {
  ModelState state;
  int64_t position = 0;
  Tensor hidden;  // of the prompt's last token, [1, 1, D]; of a source: of one token that begins the target
};

Prompt read_prompt(LanguageModel& model, const Tensor& tokens, int64_t capacity) {
  const int64_t length = tokens.size(1);
  const Context context = Context::plain(1, length, 0, tokens.device());
  Prompt prompt;
  if (model.encoder()) {
    const EncodedSource source = model.encode(tokens, context);
    prompt.state = model.initial_state(1, capacity - length, &source);
    prompt.position = 1;
    prompt.hidden = model.hidden(tokens.narrow(1, 0, 1), Context::plain(1, 1, 0, tokens.device()), &prompt.state);
  } else {
    prompt.state = model.initial_state(1, capacity);
    prompt.position = length;
    prompt.hidden = model.last_hidden(tokens, context, &prompt.state);
  }
  return prompt;
}

// Prefill of one sequence up to the logits of its last token: the time to the first new token.
Measured measure_prefill(const PointSpec& spec, LanguageModel& model, Accelerator& accelerator) {
  const at::NoGradGuard no_grad;
  const Tensor tokens = random_tokens(1, spec.length, spec.vocabulary, accelerator.device());
  int64_t state_bytes = 0;
  const auto prefill = [&] {
    const Prompt prompt = read_prompt(model, tokens, spec.length);
    model.logits(prompt.hidden).argmax(-1);
    state_bytes = prompt.state.bytes();
  };
  Measured result = measure_phase(spec, accelerator, prefill,
                                  [&] { return MemoryParts{.weights = parameter_bytes(model), .state = state_bytes}; });
  result.tokens = static_cast<double>(spec.length);
  return result;
}

// Greedy decoding, token by token, behind a context of `length` tokens.
Measured measure_decoding(const PointSpec& spec, LanguageModel& model, Accelerator& accelerator) {
  const at::NoGradGuard no_grad;
  const Tensor prompt = random_tokens(1, spec.length, spec.vocabulary, accelerator.device());
  // Room for every sample, so that no cache grows while it is timed.
  const int64_t most_samples = spec.repeats + TimingOptions().most_warmups;
  Prompt read = read_prompt(model, prompt, spec.length + most_samples * spec.decode_tokens);
  ModelState& state = read.state;
  int64_t position = read.position;
  Tensor token = prompt.narrow(1, spec.length - 1, 1);
  accelerator.reset_peak();
  const std::unique_ptr<RecordedStep> recorded = RecordedStep::make(model, state, /*rows=*/1, accelerator);
  const auto decode = [&] {
    for (int64_t i = 0; i < spec.decode_tokens; ++i) {
      if (recorded) {
        token = recorded->run(token, position++).argmax(-1, /*keepdim=*/true);
      } else {
        const Tensor hidden = model.hidden(token, Context::plain(1, 1, position++, token.device()), &state);
        token = model.logits(hidden).argmax(-1);
      }
    }
  };
  Measured result = measure_phase(spec, accelerator, decode, [&] {
    return MemoryParts{.weights = parameter_bytes(model), .state = state.bytes()};
  }, recorded != nullptr);
  result.tokens = static_cast<double>(spec.decode_tokens);
  return result;
}

json row_head(const PointSpec& spec, const Accelerator& accelerator, const std::string& phase) {
  json source = provenance(accelerator);
  source["dtype"] = spec.dtype;
  source["seed"] = kSeed;
  source["shape"] = {{"length", spec.length}, {"width", spec.model.width}};
  return {{"kind", "scale"}, {"model", spec.model_name}, {"phase", phase}, {"length", spec.length}, {"status", "ok"},
          {"message", ""},   {"provenance", source}};
}

json measured_row(const PointSpec& spec, const Accelerator& accelerator, const std::string& phase, LanguageModel& model,
                  const Measured& measured) {
  json row = row_head(spec, accelerator, phase);
  const Timing& timing = measured.timing;
  const auto rate = [&](double q) { return measured.tokens / timing.quantile(1.0 - q); };
  row["batch"] = measured.batch;
  row["tokens_per_second"] = rate(0.5);
  row["quantiles"] = {rate(0.2), rate(0.5), rate(0.8)};
  row["samples_seconds"] = timing.samples;
  row["warmups"] = timing.warmups;
  row["others_cores"] = measured.others;
  if (phase == "prefill") row["time_to_first_token"] = timing.median();
  row["recorded"] = measured.recorded;
  row["reads_source"] = model.encoder() != nullptr;
  row["peak_bytes"] = measured.peak;
  row["memory"] = measured.memory;
  row["parameters"] = model.parameters().count();
  const int64_t context = phase == "decode" ? spec.length : 0, length = phase == "decode" ? 1 : spec.length;
  row["flops_per_token"] = model.cost({1, length, context, 4}).flops / static_cast<double>(length);
  row["kernel_class"] = kernel_class_name(model.kernel_class());
  if (timing.timed_out) {
    row["message"] = "the time cap of " + std::to_string(spec.seconds) + " s allowed " +
                     std::to_string(timing.samples.size()) + " of " + std::to_string(spec.repeats) + " samples";
  }
  row["provenance"]["shape"]["batch"] = measured.batch;
  return row;
}

}  // namespace

void PointSpec::bind(Fields& fields) {
  constexpr int64_t kMany = int64_t{1} << 40;
  fields.text("model_name", model_name, "the runner");
  ConfigValue table = write_config(model);
  fields.tree("model", table, "its config");
  fields.integer("vocabulary", vocabulary, {2, kMany}, "token ids");
  fields.integer("length", length, {1, kMany}, "tokens");
  fields.texts("phases", phases, "what is measured");
  fields.integer("tokens_per_step", tokens_per_step, {1, kMany}, "of a training step");
  fields.integer("decode_tokens", decode_tokens, {1, kMany}, "per decoding sample");
  fields.integer("repeats", repeats, {1, 10000}, "samples");
  fields.number("seconds", seconds, {0.0, 1e6}, "cap per phase");
  fields.choice("dtype", dtype, {"float32", "bfloat16"}, "compute dtype");
  if (const auto read = read_config<ModelConfig>(table, "model"); read.ok()) model = *read;
}

absl::Status write_point_spec(const std::filesystem::path& folder, const PointSpec& spec) {
  return write_file(folder / "point.json", write_config(spec).json() + "\n");
}

absl::StatusOr<PointSpec> read_point_spec(const std::filesystem::path& folder) {
  ASSIGN_OR_RETURN(const ConfigValue table, read_json_config(folder / "point.json"));
  return read_config<PointSpec>(table, "point");
}

json unfinished_point_row(const PointSpec& spec, const Accelerator& accelerator, const std::string& phase,
                          const std::string& status, const std::string& message) {
  json row = row_head(spec, accelerator, phase);
  row["status"] = status;
  row["message"] = message;
  return row;
}

absl::StatusOr<std::vector<json>> run_point(const PointSpec& spec, const Registry& registry, Accelerator& accelerator) {
  ASSIGN_OR_RETURN(const auto model,
                   LanguageModel::make(spec.model, spec.vocabulary, "models." + spec.model_name, registry));
  model->parameters().materialise(kSeed, at::TensorOptions(at::kFloat).device(accelerator.device()));
  model->set_compute_dtype(spec.dtype == "bfloat16" ? at::kBFloat16 : at::kFloat);
  std::vector<json> rows;
  for (const std::string& phase : spec.phases) {
    try {
      const Measured measured = phase == "train"     ? measure_training(spec, *model, accelerator)
                                : phase == "prefill" ? measure_prefill(spec, *model, accelerator)
                                                     : measure_decoding(spec, *model, accelerator);
      rows.push_back(measured_row(spec, accelerator, phase, *model, measured));
    } catch (const c10::OutOfMemoryError& error) {
      rows.push_back(unfinished_point_row(spec, accelerator, phase, "out_of_memory", error.what_without_backtrace()));
    } catch (const c10::Error& error) {
      rows.push_back(unfinished_point_row(spec, accelerator, phase, "failed", error.what_without_backtrace()));
    }
  }
  return rows;
}

}  // namespace hippodrome
