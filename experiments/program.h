#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/layer/registry.h"
#include "core/tensor/accelerator.h"

namespace hippodrome {

// What every subcommand may use. Lives in main as long as the program.
struct Program {
  Registry registry;
  std::filesystem::path executable;
  std::vector<std::string> plugins;
  int64_t threads = 0;  // --threads; 0: all cores
  std::string matmul;   // --matmul; empty: decided by the command
  std::string memory;   // --memory
  std::string device = "cpu";  // --device
  bool tf32 = false;    // --tf32
  Accelerator* accelerator = nullptr;  // of --device; set when a subcommand's body runs
  int exit_code = 0;
};

// A subcommand's body: an exit code, or an error that main prints as one sentence.
using CommandBody = std::function<absl::StatusOr<int>()>;
// Runs the body when the subcommand is chosen, with plug-ins loaded, the device found, and threads, matrix library and the
// memory cap of the device set.
void on_command(CLI::App* command, Program& program, CommandBody body);

// Parses the command line, runs the subcommand and returns its exit code (experiments/process.h). Errors are one
// sentence on standard error.
int run_program(int argc, char** argv);

// One file each.
void add_race(CLI::App& app, Program& program);
void add_scale(CLI::App& app, Program& program);
void add_train(CLI::App& app, Program& program);
void add_evaluate(CLI::App& app, Program& program);
void add_generate(CLI::App& app, Program& program);
void add_import(CLI::App& app, Program& program);
void add_export(CLI::App& app, Program& program);
void add_translate(CLI::App& app, Program& program);
void add_logits(CLI::App& app, Program& program);
void add_tokenize(CLI::App& app, Program& program);
void add_score(CLI::App& app, Program& program);
void add_report(CLI::App& app, Program& program);
void add_list(CLI::App& app, Program& program);
void add_plan(CLI::App& app, Program& program);
void add_check(CLI::App& app, Program& program);
void add_new(CLI::App& app, Program& program);
// Run by races, in child processes.
void add_trial(CLI::App& app, Program& program);
void add_point(CLI::App& app, Program& program);

}  // namespace hippodrome
