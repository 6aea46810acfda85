#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/io/toml.h"
#include "experiments/checkpoint.h"
#include "experiments/program.h"
#include "experiments/race/summary.h"

namespace hippodrome {
namespace {

struct EvaluateArguments {
  std::string folder, task, split = "test";
  std::vector<std::string> task_keys;
  std::vector<int64_t> lengths;
  int64_t rows = 0, batches = 16;
  bool json = false;
};

// The task of --task, else the one the model was trained on.
absl::StatusOr<std::unique_ptr<Task>> choose_task(const EvaluateArguments& arguments, LoadedModel& loaded) {
  if (arguments.task.empty()) {
    if (!arguments.task_keys.empty()) return absl::InvalidArgumentError("--set is for the keys of --task");
    if (!loaded.task) {
      return absl::InvalidArgumentError("this model was not trained on a task here: name one, e.g. --task text");
    }
    return std::move(loaded.task);
  }
  ConfigValue keys;
  for (const std::string& assignment : arguments.task_keys) RETURN_IF_ERROR(apply_override(keys, assignment));
  ASSIGN_OR_RETURN(auto task, make_task(arguments.task, keys, "tasks." + arguments.task));
  if (task->vocabulary() > loaded.model->vocabulary()) {
    return absl::InvalidArgumentError(arguments.task + " has " + std::to_string(task->vocabulary()) +
                                      " tokens, and this model knows " + std::to_string(loaded.model->vocabulary()));
  }
  return task;
}

absl::StatusOr<int> run(const EvaluateArguments& arguments, const Registry& registry, at::Device device) {
  ASSIGN_OR_RETURN(LoadedModel loaded, load_model(arguments.folder, registry));
  loaded.model->parameters().move_to(device);
  const std::string task_name = arguments.task.empty() && loaded.trial ? loaded.trial->task_name : arguments.task;
  ASSIGN_OR_RETURN(const std::unique_ptr<Task> chosen, choose_task(arguments, loaded));
  const Task& task = *chosen;
  const Split split = arguments.split == "train"        ? Split::kTrain
                      : arguments.split == "validation" ? Split::kValidation
                                                        : Split::kTest;
  const std::vector<int64_t> lengths = arguments.lengths.empty() ? task.test_lengths() : arguments.lengths;
  const std::string metric(metric_name(task.metric()));
  nlohmann::json results = nlohmann::json::array();
  std::vector<std::vector<std::string>> table = {{"length", metric, "nats per label", "labels", "chance"}};
  for (const int64_t length : lengths) {
    const int64_t rows = arguments.rows > 0 ? arguments.rows : loaded.trial ? loaded.trial->training.batch : 8;
    ASSIGN_OR_RETURN(const Evaluation result,
                     evaluate(*loaded.model, task, split, length, rows, arguments.batches));
    const double chance = task.chance(length).value;
    results.push_back({{"length", length}, {metric, result.metric}, {"loss", result.loss}, {"labels", result.labels},
                       {"chance", chance}});
    char number[3][32];
    std::snprintf(number[0], 32, "%.4f", result.metric);
    std::snprintf(number[1], 32, "%.4f", result.loss);
    std::snprintf(number[2], 32, "%.4f", chance);
    table.push_back({std::to_string(length), number[0], number[1], std::to_string(result.labels), number[2]});
  }
  if (arguments.json) {
    std::printf("%s\n", nlohmann::json{{"model", loaded.name}, {"task", task_name},
                                       {"split", arguments.split}, {"results", results}}.dump().c_str());
  } else {
    std::printf("%s on %s, %s split\n%s", loaded.name.c_str(), task_name.c_str(),
                arguments.split.c_str(), aligned_table(table).c_str());
  }
  return 0;
}

}  // namespace

void add_evaluate(CLI::App& app, Program& program) {
  auto arguments = std::make_shared<EvaluateArguments>();
  CLI::App* command = app.add_subcommand("evaluate", "Measure a trained model's metric at any sequence length");
  add_model_option(command, arguments->folder);
  command->add_option("--task", arguments->task, "a registered task (default: the one it was trained on)");
  command->add_option("--set", arguments->task_keys, "a key of --task, e.g. --set pairs=8 (may be repeated)");
  command->add_option("--split", arguments->split, "train, validation or test")
      ->check(CLI::IsMember({"train", "validation", "test"}));
  command->add_option("--lengths", arguments->lengths, "tokens, e.g. --lengths 64 256 (default: the task's test lengths)")
      ->check(CLI::PositiveNumber);
  command->add_option("--rows", arguments->rows, "rows per batch (default: as trained, else 8)")->check(CLI::PositiveNumber);
  command->add_option("--batches", arguments->batches, "batches per length")->check(CLI::PositiveNumber);
  command->add_flag("--json", arguments->json, "print JSON");
  on_command(command, program, [arguments, &program] { return run(*arguments, program.registry, program.accelerator->device()); });
}

}  // namespace hippodrome
