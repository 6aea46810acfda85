#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/tensor/matmul.h"
#include "experiments/process.h"
#include "experiments/program.h"
#include "experiments/race/cells.h"

// The two subcommands that races run in child processes, one per kind of cell.
namespace hippodrome {
namespace {

using nlohmann::json;

absl::StatusOr<int> run_trial_cell(const std::string& folder, Program& program) {
  become_child();
  ASSIGN_OR_RETURN(const TrialSpec spec, read_trial_spec(folder));
  const auto progress = [](const TrialProgress& p) {
    const json line = {{"phase", p.phase}, {"step", p.step},       {"steps", p.steps},
                       {"loss", p.loss},   {"metric", p.metric},   {"tokens_per_second", p.tokens_per_second},
                       {"seconds", p.seconds}};
    std::printf("%s\n", line.dump().c_str());
    std::fflush(stdout);
  };
  absl::StatusOr<json> row;
  try {
    row = run_trial(spec, folder, program.registry, *program.accelerator, progress);
  } catch (const c10::OutOfMemoryError& error) {
    row = unfinished_trial_row(spec, *program.accelerator, "out_of_memory", error.what_without_backtrace());
  }
  if (absl::IsCancelled(row.status())) return kExitInterrupted;
  RETURN_IF_ERROR(row.status());
  RETURN_IF_ERROR(write_cell_rows(folder, {*row}));
  return kExitOk;
}

absl::StatusOr<int> run_point_cell(const std::string& folder, Program& program) {
  become_child();
  ASSIGN_OR_RETURN(const PointSpec spec, read_point_spec(folder));
  ASSIGN_OR_RETURN(const std::vector<json> rows, run_point(spec, program.registry, *program.accelerator));
  RETURN_IF_ERROR(write_cell_rows(folder, rows));
  return kExitOk;
}

}  // namespace

void add_trial(CLI::App& app, Program& program) {
  auto folder = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("trial", "Run one trial of a race, in the folder that holds its trial.json");
  command->group("");  // not listed: races call it
  command->add_option("folder", *folder)->required();
  on_command(command, program, [folder, &program] { return run_trial_cell(*folder, program); });
}

void add_point(CLI::App& app, Program& program) {
  auto folder = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("point", "Measure one model at one length, in the folder that holds its point.json");
  command->group("");
  command->add_option("folder", *folder)->required();
  on_command(command, program, [folder, &program] { return run_point_cell(*folder, program); });
}

}  // namespace hippodrome
