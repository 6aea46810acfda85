#include "experiments/program.h"
#include "experiments/race/race.h"

namespace hippodrome {
namespace {

struct TrainArguments {
  std::string model, task, out;
  int64_t seed = 1;
  std::vector<std::string> overrides;
  bool json = false;
};

// A race of one runner on one track: the same cells, checkpoints and report.
absl::StatusOr<int> train(const TrainArguments& arguments, Program& program) {
  ConfigValue model, task, root;
  const SourceLocation here{"command line", 0};
  model.set("preset", ConfigValue(arguments.model, here));
  task.set("task", ConfigValue(arguments.task, here));
  root.set("name", ConfigValue("train-" + arguments.model + "-" + arguments.task, here));
  root.set("seeds", ConfigValue(ConfigValue::List{ConfigValue(arguments.seed, here)}, here));
  root.set("models", ConfigValue(ConfigValue::List{std::move(model)}, here));
  root.set("tasks", ConfigValue(ConfigValue::List{std::move(task)}, here));
  ASSIGN_OR_RETURN(Recipe recipe, recipe_from(std::move(root), arguments.overrides, program.registry));
  recipe.threads = program.threads;
  recipe.memory = program.memory;
  if (!program.matmul.empty()) recipe.matmul = program.matmul;
  RaceOptions options{.executable = program.executable, .out = arguments.out, .with_scale = false,
                      .json = arguments.json, .plugins = program.plugins, .device = program.device,
                      .tf32 = program.tf32};
  return run_race(recipe, options, program.registry);
}

}  // namespace

void add_train(CLI::App& app, Program& program) {
  auto arguments = std::make_shared<TrainArguments>();
  CLI::App* command = app.add_subcommand("train", "Train one model on one task");
  command->add_option("model", arguments->model, "a preset (see `list presets`)")->required();
  command->add_option("task", arguments->task, "a task (see `list tasks`)")->required();
  command->add_option("--seed", arguments->seed, "of initial values and data")->check(CLI::NonNegativeNumber);
  command->add_option("--set", arguments->overrides, "a recipe key: --set training.steps=100 --set models.0.width=64");
  command->add_option("--out", arguments->out, "the run's folder (default: runs/train-MODEL-TASK-TIME)");
  command->add_flag("--json", arguments->json, "print the rows as JSON instead of tables");
  on_command(command, program, [arguments, &program] { return train(*arguments, program); });
}

}  // namespace hippodrome
