#include "experiments/race/trial.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "core/base/text.h"
#include "core/io/atomic_file.h"
#include "core/io/json_config.h"
#include "core/measure/provenance.h"
#include "core/measure/timing.h"
#include "experiments/process.h"
#include "experiments/race/search_evaluation.h"

namespace hippodrome {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

using Clock = std::chrono::steady_clock;

// Attention maps kept in a row.
constexpr int64_t kAttentionSamples = 3;

// What a resumed trial must remember beside the checkpoint: the curve so far and the time it took.
struct Record {
  json curve = json::array();
  double seconds = 0.0;
  int64_t peak_bytes = 0;
  std::vector<double> step_seconds;  // the last few hundred, for the rate
  bool finished = false;             // of training; testing may be to come
};

absl::Status save_record(const fs::path& file, const Record& record, int64_t step) {
  const json data = {{"step", step},
                     {"curve", record.curve},
                     {"seconds", record.seconds},
                     {"peak_bytes", record.peak_bytes},
                     {"step_seconds", record.step_seconds},
                     {"finished", record.finished}};
  return write_file(file, data.dump() + "\n");
}

// The record as it stood at `step`. One that a kill left behind or ahead of the checkpoint is cut to it.
absl::StatusOr<Record> load_record(const fs::path& file, int64_t step) {
  ASSIGN_OR_RETURN(const std::string text, read_file(file));
  const json data = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!data.is_object() || !data.contains("curve") || !data["curve"].is_array()) {
    return absl::DataLossError(file.string() + " is not a trial's record");
  }
  Record record;
  for (const json& point : data["curve"]) {
    if (point.value("step", int64_t{0}) <= step) record.curve.push_back(point);
  }
  record.seconds = data.value("seconds", 0.0);
  record.peak_bytes = data.value("peak_bytes", int64_t{0});
  record.step_seconds = data.value("step_seconds", std::vector<double>());
  record.finished = data.value("finished", false) && data.value("step", int64_t{-1}) == step;
  return record;
}

int64_t measured_state_bytes(LanguageModel& model, const Task& task, int64_t length, at::Device device) {
  const at::NoGradGuard no_grad;
  const auto batch =
      task.batch({Split::kValidation, 0, 0, 1, task.default_length(), /*apart=*/model.encoder() != nullptr});
  if (!batch.ok()) return 0;
  if (model.encoder()) {
    // A source of that length, of any tokens.
    const EncodedSource source =
        model.encode(at::zeros({1, length}, at::TensorOptions(at::kLong).device(device)), Context::plain(1, length, 0, device));
    return model.initial_state(/*rows=*/1, length, &source).bytes();
  }
  ModelState state = model.initial_state(/*rows=*/1, length);
  const int64_t chunk = batch->tokens.size(1);
  for (int64_t done = 0; done < length;) {
    const int64_t n = std::min(chunk, length - done);
    model.hidden(batch->tokens.narrow(1, 0, n).to(device), Context::plain(1, n, done, device), &state);
    done += n;
  }
  return state.bytes();
}

json levels(const std::vector<MetricLevel>& levels) {
  json result = json::array();
  for (const MetricLevel& level : levels) result.push_back({{"name", level.name}, {"value", level.value}});
  return result;
}

// A layer's refusal (positions beyond a learned table, say) as a sentence.
absl::StatusOr<Evaluation> try_evaluate(LanguageModel& model, const Task& task, int64_t length, int64_t rows,
                                        int64_t batches) {
  try {
    return evaluate(model, task, Split::kTest, length, rows, batches);
  } catch (const c10::OutOfMemoryError&) {
    throw;
  } catch (const c10::Error& error) {
    return absl::FailedPreconditionError(error.what_without_backtrace());
  }
}

// What the model says by itself at this source length, beside its metric there.
absl::Status add_search(LanguageModel& model, const PairTask& task, int64_t length, int64_t rows, int64_t count,
                        json& point) {
  ASSIGN_OR_RETURN(const SearchEvaluation search, evaluate_search(model, task, length, rows, count));
  point["pairs"] = search.pairs;
  point["exact_match"] = search.exact_match;
  point["bleu"] = search.bleu;
  point["chrf"] = search.chrf;
  return absl::OkStatus();
}

// The keys every trial row has, finished or not.
json row_head(const TrialSpec& spec) {
  return {{"kind", "trial"},          {"status", "ok"},         {"message", ""},
          {"model", spec.model_name}, {"task", spec.task_name}, {"seed", spec.seed},
          {"width", spec.model.width}};
}

}  // namespace

void TrialSpec::bind(Fields& fields) {
  constexpr int64_t kMany = int64_t{1} << 62;
  fields.text("model_name", model_name, "the runner");
  ConfigValue model_table = write_config(model), training_table = write_config(training);
  fields.tree("model", model_table, "its config");
  fields.text("task_name", task_name, "the recipe's task entry");
  fields.text("task", task, "the registered task");
  fields.tree("task_keys", task_keys, "its config");
  fields.tree("training", training_table, "the training config");
  fields.integer("seed", seed, {0, kMany}, "of initial values and training data");
  fields.integer("state_length", state_length, {0, kMany}, "tokens after which the state is measured");
  if (const auto read = read_config<ModelConfig>(model_table, "model"); read.ok()) model = *read;
  if (const auto read = read_config<TrainingConfig>(training_table, "training"); read.ok()) training = *read;
}

absl::Status write_trial_spec(const fs::path& folder, const TrialSpec& spec) {
  return write_file(folder / "trial.json", write_config(spec).json() + "\n");
}

absl::StatusOr<TrialSpec> read_trial_spec(const fs::path& folder) {
  ASSIGN_OR_RETURN(const ConfigValue table, read_json_config(folder / "trial.json"));
  return read_config<TrialSpec>(table, "trial");
}

absl::StatusOr<std::unique_ptr<LanguageModel>> make_model(const TrialSpec& spec, const Task& task,
                                                          const Registry& registry) {
  return LanguageModel::make(spec.model, task.vocabulary(), "models." + spec.model_name, registry);
}

json unfinished_trial_row(const TrialSpec& spec, const Accelerator& accelerator, const std::string& status,
                          const std::string& message) {
  json row = row_head(spec);
  row["status"] = status;
  row["message"] = message;
  row["provenance"] = provenance(accelerator);
  row["provenance"]["seed"] = spec.seed;
  row["provenance"]["dtype"] = spec.training.dtype;
  return row;
}

absl::StatusOr<json> run_trial(const TrialSpec& spec, const fs::path& folder, const Registry& registry,
                               Accelerator& accelerator, const std::function<void(const TrialProgress&)>& report) {
  ASSIGN_OR_RETURN(const auto task, make_task(spec.task, spec.task_keys, "tasks." + spec.task_name));
  ASSIGN_OR_RETURN(const auto model, make_model(spec, *task, registry));
  model->parameters().materialise(static_cast<uint64_t>(spec.seed),
                                  at::TensorOptions(at::kFloat).device(accelerator.device()));
  Trainer trainer(*model, *task, spec.training, static_cast<uint64_t>(spec.seed), accelerator);

  const fs::path checkpoints = folder / "checkpoints", record_file = folder / "record.json";
  Record record;
  if (const absl::Status restored = trainer.restore(checkpoints); restored.ok()) {
    ASSIGN_OR_RETURN(record, load_record(record_file, trainer.steps_done()));
  } else if (!absl::IsNotFound(restored)) {
    return restored;
  }
  // The record is written first: one that is ahead of the checkpoint can be cut to it, one behind could not be
  // completed.
  const auto save = [&]() -> absl::Status {
    record.peak_bytes = std::max(record.peak_bytes, accelerator.peak_bytes());
    RETURN_IF_ERROR(save_record(record_file, record, trainer.steps_done()));
    return trainer.save(checkpoints);
  };

  const TrainingConfig& training = spec.training;
  const double better = higher_is_better(task->metric()) ? 1.0 : -1.0;
  TrialProgress progress{.steps = training.steps, .phase = "train"};
  accelerator.reset_peak();
  while (!record.finished) {
    const Clock::time_point start = Clock::now();
    ASSIGN_OR_RETURN(const Trainer::Step step, trainer.step());
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    record.seconds += seconds;
    record.step_seconds.push_back(seconds);
    if (record.step_seconds.size() > 256) record.step_seconds.erase(record.step_seconds.begin());
    const bool out_of_time = training.time_limit > 0.0 && record.seconds >= training.time_limit;
    record.finished = step.step >= training.steps || out_of_time;
    progress.step = step.step;
    progress.loss = step.loss;
    progress.seconds = record.seconds;
    progress.tokens_per_second = static_cast<double>(trainer.tokens_per_step()) / quantile(record.step_seconds, 0.5);
    if (step.step % training.evaluate_every == 0 || record.finished) {
      ASSIGN_OR_RETURN(const Evaluation validation, evaluate(*model, *task, Split::kValidation, trainer.length(),
                                                             training.batch, training.evaluate_batches));
      progress.metric = validation.metric;
      record.curve.push_back({{"step", step.step},
                              {"tokens", step.step * trainer.tokens_per_step()},
                              {"seconds", record.seconds},
                              {"loss", step.loss},
                              {"auxiliary_loss", step.auxiliary_loss},
                              {"metric", validation.metric}});
      const bool solved = training.stop_at > 0.0 && better * validation.metric >= better * training.stop_at;
      record.finished = record.finished || solved;
    }
    report(progress);
    if (stop_requested()) {
      RETURN_IF_ERROR(save());
      return absl::CancelledError("stopped at step " + std::to_string(step.step));
    }
    if (record.finished || step.step % training.checkpoint_every == 0) RETURN_IF_ERROR(save());
  }

  progress.phase = "test";
  json by_length = json::array();
  double final_metric = 0.0;
  std::vector<int64_t> lengths = task->test_lengths();
  if (std::find(lengths.begin(), lengths.end(), trainer.length()) == lengths.end()) lengths.push_back(trainer.length());
  std::sort(lengths.begin(), lengths.end());
  for (const int64_t length : lengths) {
    // The tokens of a batch are kept, so that the longest test needs no more memory than training did.
    const int64_t rows = std::max<int64_t>(1, training.batch * trainer.length() / length);
    const int64_t batches = training.test_batches * std::max<int64_t>(1, training.batch / rows);
    const auto test = try_evaluate(*model, *task, length, rows, batches);
    if (!test.ok() && length != trainer.length()) {
      by_length.push_back({{"length", length},
                           {"value", nullptr},
                           {"trained", false},
                           {"message", std::string(test.status().message())}});
      continue;
    }
    RETURN_IF_ERROR(test.status());
    by_length.push_back({{"length", length},
                         {"value", test->metric},
                         {"trained", length <= trainer.length()},
                         {"labels", test->labels}});
    if (const PairTask* pairs = task->as_pairs(); pairs && training.search_pairs > 0) {
      RETURN_IF_ERROR(add_search(*model, *pairs, length, rows, training.search_pairs, by_length.back()));
    }
    if (length == trainer.length()) final_metric = test->metric;
    report(progress);
    if (stop_requested()) return absl::CancelledError("stopped while testing");
  }

  const Workload workload{1, trainer.length(), 0, 4, model->encoder() ? trainer.length() : 0};
  json row = row_head(spec);
  row["parameters"] = model->parameters().count();
  row["flops_per_token"] = model->cost(workload).flops / static_cast<double>(trainer.length());
  row["state_length"] = spec.state_length;
  row["state_bytes"] = measured_state_bytes(*model, *task, spec.state_length, accelerator.device());
  row["tokens_per_second"] = static_cast<double>(trainer.tokens_per_step()) / quantile(record.step_seconds, 0.5);
  row["step_seconds"] = record.step_seconds;
  row["peak_memory_bytes"] = record.peak_bytes;
  row["steps"] = trainer.steps_done();
  row["tokens"] = trainer.steps_done() * trainer.tokens_per_step();
  row["train_seconds"] = record.seconds;
  row["metric"] = {{"name", metric_name(task->metric())},
                   {"value", final_metric},
                   {"higher_is_better", higher_is_better(task->metric())}};
  row["chance"] = task->chance(trainer.length()).value;
  row["plateaus"] = levels(task->plateaus(trainer.length()));
  const MetricLevel floor = task->floor();
  row["floor"] = floor.name.empty() ? json() : json{{"name", floor.name}, {"value", floor.value}};
  row["by_length"] = by_length;
  if (const PairTask* pairs = task->as_pairs(); pairs && model->encoder()) {
    ASSIGN_OR_RETURN(row["attention"], attention_samples(*model, *pairs, trainer.length(), kAttentionSamples));
  }
  row["curve"] = record.curve;
  row["kernel_class"] = kernel_class_name(model->kernel_class());
  row["task_facts"] = json::parse(task->provenance().json());
  row["provenance"] = provenance(accelerator);
  row["provenance"]["seed"] = spec.seed;
  row["provenance"]["dtype"] = training.dtype;
  row["provenance"]["shape"] = {{"batch", training.batch}, {"length", trainer.length()}};
  return row;
}

}  // namespace hippodrome
