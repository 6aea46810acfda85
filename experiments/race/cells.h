#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "experiments/race/trial.h"
#include "experiments/recipe.h"
#include "experiments/scale/point.h"

namespace hippodrome {

// A cell of a run: one trial, or one (model, length) of a scale measurement. Its folder holds its spec, its log, and when it is
// done `rows.jsonl`.
struct Cell {
  std::string label;               // "mamba · induction · seed 1"
  std::filesystem::path folder;
  std::string command;             // "trial" or "point": the subcommand that runs it
  double seconds = 0.0;            // hard time cap; 0: none
};

// The model's config with its width solved for the recipe's parameter count at this vocabulary; built once on the meta device,
// so that every mistake in it is found.
absl::StatusOr<ModelConfig> matched_model(const Recipe& recipe, const RecipeModel& model, int64_t vocabulary,
                                          const Registry& registry);

// Writes the specs of every cell of the recipe under `run`, models matched in size, and lists the cells in the order they run.
absl::StatusOr<std::vector<Cell>> lay_out_cells(const Recipe& recipe, const std::filesystem::path& run, bool with_trials,
                                                bool with_scale, const Registry& registry);

// The rows of a finished cell; NotFound when it is not finished.
absl::StatusOr<std::vector<nlohmann::json>> cell_rows(const Cell& cell);
absl::Status write_cell_rows(const std::filesystem::path& folder, const std::vector<nlohmann::json>& rows);
// Rows that say why a cell has no result.
absl::StatusOr<std::vector<nlohmann::json>> failed_cell_rows(const Cell& cell, const Accelerator& accelerator,
                                                             const std::string& status, const std::string& message);

}  // namespace hippodrome
