#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "experiments/recipe.h"

namespace hippodrome {

struct RaceOptions {
  std::filesystem::path executable;  // of this program, for the children
  std::filesystem::path out;         // the run's folder; empty: runs/<name>-<time>
  bool with_trials = true;
  bool with_scale = true;            // when the recipe has [scale]
  bool json = false;                 // the summary as JSON on standard output
  std::vector<std::string> plugins;
  std::string device = "cpu";        // of every cell; a resumed run keeps its own
  bool tf32 = false;
};

// Runs a recipe into a new folder: the resolved recipe, one sub-folder per cell, rows.jsonl, report.html. Every cell runs in a
// process of its own; one that fails is a row that says so. Returns the program's exit code (experiments/process.h).
absl::StatusOr<int> run_race(const Recipe& recipe, const RaceOptions& options, const Registry& registry);

// Continues the run in `folder`: finished cells are kept, an unfinished trial goes on from its checkpoint.
absl::StatusOr<int> resume_race(const std::filesystem::path& folder, RaceOptions options, const Registry& registry);

}  // namespace hippodrome
