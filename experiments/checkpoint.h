#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <optional>

#include "core/data/task.h"
#include "experiments/model_folder.h"
#include "experiments/race/trial.h"

namespace hippodrome {

// A model with weights, ready to use, wherever it came from.
struct LoadedModel {
  std::string name;                    // for people: the trial's model, or the folder's name
  ModelConfig config;                  // its vocabulary filled in
  std::unique_ptr<LanguageModel> model;
  std::filesystem::path folder;        // the trial's, or the one with config.json or model.json and what lies beside it
  std::string stored;                  // types of the weights on disk
  nlohmann::json source;               // Hugging Face's config.json; null where there is none
  std::optional<TrialSpec> trial;      // of a race's trial only, as is
  std::unique_ptr<Task> task;          // what it was trained on
};

// Reads a model from a folder of Hugging Face's layout (config.json), an imported one (model.json), or a trial's newest
// checkpoint: then `folder` is the trial's (it holds trial.json) or a run with a single trial; for a run with several, the
// error lists them. `dtype` is that of the computation, by default the trial's own or float32; weights are float32 at rest, or
// float64 for that.
absl::StatusOr<LoadedModel> load_model(const std::filesystem::path& folder, const Registry& registry,
                                       std::optional<at::ScalarType> dtype = std::nullopt);

// What commands accept where they read a model: a folder as argument, or after --model.
void add_model_option(CLI::App* command, std::string& folder);

// "float32", "float64" or "bfloat16".
absl::StatusOr<at::ScalarType> parse_dtype(const std::string& name);

}  // namespace hippodrome
