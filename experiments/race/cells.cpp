#include "experiments/race/cells.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/data/pairs.h"
#include "core/io/atomic_file.h"

namespace hippodrome {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

// State is measured behind this many tokens: far enough that a cache is larger than a recurrent state.
constexpr int64_t kStateLength = 1024;
// A child past its own time caps is ended after this much more.
constexpr double kGraceSeconds = 60.0;

absl::Status make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return absl::PermissionDeniedError("cannot make the folder " + folder.string() + ": " + error.message());
  return absl::OkStatus();
}

absl::Status lay_out_trials(const Recipe& recipe, const fs::path& run, const Registry& registry,
                            std::vector<Cell>& cells) {
  for (const RecipeTask& entry : recipe.tasks) {
    ASSIGN_OR_RETURN(const auto task, make_task(entry.task, entry.keys, entry.path));
    for (const RecipeModel& model : recipe.models) {
      if (!model.config.encoder.table()->empty() && !task->as_pairs()) {
        return absl::InvalidArgumentError(
            "[" + model.path + "] has an encoder, which reads the source of pairs, and the task \"" + entry.name +
            "\" is none of pairs: take reverse, copy, sort or translate, or a model "
            "without an encoder");
      }
      TrialSpec spec;
      spec.model_name = model.name;
      spec.task_name = entry.name;
      spec.task = entry.task;
      spec.task_keys = entry.keys;
      ASSIGN_OR_RETURN(spec.training, training_for(recipe, model, entry));
      ASSIGN_OR_RETURN(spec.model, matched_model(recipe, model, task->vocabulary(), registry));
      spec.state_length =
          spec.model.positions == "learned" ? std::min(kStateLength, spec.model.max_positions) : kStateLength;
      for (const int64_t seed : recipe.seeds) {
        spec.seed = seed;
        const fs::path folder = run / "trials" / (entry.name + "-" + model.name + "-" + std::to_string(seed));
        RETURN_IF_ERROR(make_folder(folder));
        RETURN_IF_ERROR(write_trial_spec(folder, spec));
        cells.push_back({model.name + " · " + entry.name + " · seed " + std::to_string(seed), folder, "trial", 0.0});
      }
    }
  }
  return absl::OkStatus();
}

absl::Status lay_out_points(const Recipe& recipe, const fs::path& run, const Registry& registry,
                            std::vector<Cell>& cells) {
  const ScaleConfig& scale = recipe.scale;
  const int64_t longest = *std::max_element(scale.lengths.begin(), scale.lengths.end());
  for (const RecipeModel& model : recipe.models) {
    PointSpec spec;
    spec.model_name = model.name;
    ASSIGN_OR_RETURN(spec.model, matched_model(recipe, model, scale.vocabulary, registry));
    spec.vocabulary = scale.vocabulary;
    spec.phases = scale.phases;
    spec.tokens_per_step = scale.tokens_per_step > 0 ? scale.tokens_per_step : longest;
    spec.decode_tokens = scale.decode_tokens;
    spec.repeats = scale.repeats;
    spec.seconds = scale.seconds;
    spec.dtype = scale.dtype;
    for (const int64_t length : scale.lengths) {
      spec.length = length;
      const fs::path folder = run / "scale" / (model.name + "-" + std::to_string(length));
      RETURN_IF_ERROR(make_folder(folder));
      RETURN_IF_ERROR(write_point_spec(folder, spec));
      // A phase ends by itself soon after its cap, unless one call alone takes longer than everything.
      const double cap = 3.0 * scale.seconds * static_cast<double>(scale.phases.size()) + kGraceSeconds;
      cells.push_back({model.name + " · " + std::to_string(length) + " tokens", folder, "point", cap});
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> matched_model(const Recipe& recipe, const RecipeModel& model, int64_t vocabulary,
                                          const Registry& registry) {
  ModelConfig config = model.config;
  if (recipe.match.parameters > 0.0) {
    ASSIGN_OR_RETURN(config.width, match_width(config, vocabulary, model.path, registry, recipe.match.parameters,
                                               recipe.match.tolerance));
  }
  RETURN_IF_ERROR(LanguageModel::make(config, vocabulary, model.path, registry).status());
  return config;
}

absl::StatusOr<std::vector<Cell>> lay_out_cells(const Recipe& recipe, const fs::path& run, bool with_trials,
                                                bool with_scale, const Registry& registry) {
  std::vector<Cell> cells;
  if (with_trials) RETURN_IF_ERROR(lay_out_trials(recipe, run, registry, cells));
  if (with_scale) RETURN_IF_ERROR(lay_out_points(recipe, run, registry, cells));
  return cells;
}

absl::StatusOr<std::vector<json>> cell_rows(const Cell& cell) {
  const fs::path file = cell.folder / "rows.jsonl";
  if (!fs::exists(file)) return absl::NotFoundError(cell.label + " is not finished");
  ASSIGN_OR_RETURN(const std::string text, read_file(file));
  std::vector<json> rows;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    json row = json::parse(text.substr(begin, end - begin), nullptr, /*allow_exceptions=*/false);
    if (!row.is_object()) return absl::DataLossError(file.string() + " holds a line that is not a row");
    rows.push_back(std::move(row));
    begin = end + 1;
  }
  return rows;
}

absl::Status write_cell_rows(const fs::path& folder, const std::vector<json>& rows) {
  std::string text;
  for (const json& row : rows) text += row.dump() + "\n";
  return write_file(folder / "rows.jsonl", text);
}

absl::StatusOr<std::vector<json>> failed_cell_rows(const Cell& cell, const Accelerator& accelerator,
                                                   const std::string& status, const std::string& message) {
  std::vector<json> rows;
  if (cell.command == "trial") {
    ASSIGN_OR_RETURN(const TrialSpec spec, read_trial_spec(cell.folder));
    rows.push_back(unfinished_trial_row(spec, accelerator, status, message));
  } else {
    ASSIGN_OR_RETURN(const PointSpec spec, read_point_spec(cell.folder));
    for (const std::string& phase : spec.phases) {
      rows.push_back(unfinished_point_row(spec, accelerator, phase, status, message));
    }
  }
  return rows;
}

}  // namespace hippodrome
