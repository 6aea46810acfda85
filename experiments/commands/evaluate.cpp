#include <cstdio>
#include <nlohmann/json.hpp>

#include "experiments/checkpoint.h"
#include "experiments/program.h"
#include "experiments/race/summary.h"

namespace hippodrome {
namespace {

struct EvaluateArguments {
  std::string folder, split = "test";
  std::vector<int64_t> lengths;
  int64_t rows = 0, batches = 16;
  bool json = false;
};

absl::StatusOr<int> run(const EvaluateArguments& arguments, const Registry& registry) {
  ASSIGN_OR_RETURN(const TrainedModel trained, load_trained(arguments.folder, registry));
  const Task& task = *trained.task;
  const Split split = arguments.split == "train"        ? Split::kTrain
                      : arguments.split == "validation" ? Split::kValidation
                                                        : Split::kTest;
  const std::vector<int64_t> lengths = arguments.lengths.empty() ? task.test_lengths() : arguments.lengths;
  const std::string metric(metric_name(task.metric()));
  nlohmann::json results = nlohmann::json::array();
  std::vector<std::vector<std::string>> table = {{"length", metric, "nats per label", "labels", "chance"}};
  for (const int64_t length : lengths) {
    const int64_t rows = arguments.rows > 0 ? arguments.rows : trained.spec.training.batch;
    ASSIGN_OR_RETURN(const Evaluation result,
                     evaluate(*trained.model, task, split, length, rows, arguments.batches));
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
    std::printf("%s\n", nlohmann::json{{"model", trained.spec.model_name}, {"task", trained.spec.task_name},
                                       {"split", arguments.split}, {"results", results}}.dump().c_str());
  } else {
    std::printf("%s on %s, %s split\n%s", trained.spec.model_name.c_str(), trained.spec.task_name.c_str(),
                arguments.split.c_str(), aligned_table(table).c_str());
  }
  return 0;
}

}  // namespace

void add_evaluate(CLI::App& app, Program& program) {
  auto arguments = std::make_shared<EvaluateArguments>();
  CLI::App* command = app.add_subcommand("evaluate", "Measure a trained model's metric at any sequence length");
  command->add_option("trial", arguments->folder, "a trial's folder: RUN/trials/TASK-MODEL-SEED")->required();
  command->add_option("--split", arguments->split, "train, validation or test")
      ->check(CLI::IsMember({"train", "validation", "test"}));
  command->add_option("--lengths", arguments->lengths, "tokens, e.g. --lengths 64 256 (default: the task's test lengths)")
      ->check(CLI::PositiveNumber);
  command->add_option("--rows", arguments->rows, "rows per batch (default: as trained)")->check(CLI::PositiveNumber);
  command->add_option("--batches", arguments->batches, "batches per length")->check(CLI::PositiveNumber);
  command->add_flag("--json", arguments->json, "print JSON");
  on_command(command, program, [arguments, &program] { return run(*arguments, program.registry); });
}

}  // namespace hippodrome
