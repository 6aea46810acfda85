#include "experiments/race/race.h"

#include "experiments/program.h"

namespace hippodrome {
namespace {

struct RaceArguments {
  std::string recipe;
  std::string resume;
  std::vector<std::string> overrides;
  std::string out;
  bool json = false;
};

// The options that race and scale share. `arguments` must outlive the app.
void add_run_options(CLI::App* command, RaceArguments& arguments) {
  auto* recipe = command->add_option("recipe", arguments.recipe, "the recipe, a TOML file");
  auto* resume = command->add_option("--resume", arguments.resume, "continue the run in this folder")->excludes(recipe);
  recipe->excludes(resume);
  command->add_option("--set", arguments.overrides, "override a key: --set training.steps=100")->excludes(resume);
  command->add_option("--out", arguments.out, "the run's folder (default: runs/NAME-TIME)")->excludes(resume);
  command->add_flag("--json", arguments.json, "print the rows as JSON instead of tables");
}

absl::StatusOr<int> run(const RaceArguments& arguments, Program& program, bool with_trials) {
  program.accelerator->set_limit(0);  // the cap is for each cell, which runs in a process of its own
  RaceOptions options{.executable = program.executable, .out = arguments.out, .with_trials = with_trials,
                      .json = arguments.json, .plugins = program.plugins, .device = program.device,
                      .tf32 = program.tf32};
  if (!arguments.resume.empty()) return resume_race(arguments.resume, options, program.registry);
  if (arguments.recipe.empty()) {
    return absl::InvalidArgumentError("give a recipe (experiments/recipes/ holds some) or --resume RUN_FOLDER");
  }
  ASSIGN_OR_RETURN(Recipe recipe, read_recipe(arguments.recipe, arguments.overrides, program.registry));
  if (program.threads > 0) recipe.threads = program.threads;
  if (!program.matmul.empty()) recipe.matmul = program.matmul;
  if (!program.memory.empty()) recipe.memory = program.memory;
  return run_race(recipe, options, program.registry);
}

}  // namespace

void add_race(CLI::App& app, Program& program) {
  auto arguments = std::make_shared<RaceArguments>();
  CLI::App* command = app.add_subcommand("race", "Train models × tasks × seeds of a recipe, then report");
  add_run_options(command, *arguments);
  on_command(command, program, [arguments, &program] { return run(*arguments, program, /*with_trials=*/true); });
}

void add_scale(CLI::App& app, Program& program) {
  auto arguments = std::make_shared<RaceArguments>();
  CLI::App* command = app.add_subcommand("scale", "Measure speed and memory of a recipe's models over sequence lengths");
  add_run_options(command, *arguments);
  on_command(command, program, [arguments, &program] { return run(*arguments, program, /*with_trials=*/false); });
}

}  // namespace hippodrome
