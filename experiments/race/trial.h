#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "core/model/language_model.h"
#include "core/tensor/accelerator.h"
#include "core/training/trainer.h"

namespace hippodrome {

// One cell of a race, complete: what a child process needs to train, evaluate and report it, and what a checkpoint needs to be
// understood later. Kept as `trial.json` in the cell's folder.
struct TrialSpec {
  std::string model_name;
  ModelConfig model;
  std::string task_name;    // of the recipe's entry
  std::string task;         // registered
  ConfigValue task_keys;
  TrainingConfig training;
  int64_t seed = 1;
  int64_t state_length = 0;  // tokens after which the carried state is measured

  void bind(Fields& fields);
};

absl::Status write_trial_spec(const std::filesystem::path& folder, const TrialSpec& spec);
absl::StatusOr<TrialSpec> read_trial_spec(const std::filesystem::path& folder);

// The spec's model, on the meta device.
absl::StatusOr<std::unique_ptr<LanguageModel>> make_model(const TrialSpec& spec, const Task& task,
                                                          const Registry& registry);

// Where a trial is, for whoever watches.
struct TrialProgress {
  int64_t step = 0;
  int64_t steps = 0;
  double loss = 0.0;
  double metric = 0.0;
  double tokens_per_second = 0.0;
  double seconds = 0.0;  // of training so far
  std::string phase;     // "train", "test"
};

// Trains (continuing from a checkpoint in the folder), tests at every length and returns the trial's row (see
// experiments/report/rows.h). Cancelled when a stop was requested, after writing a checkpoint.
absl::StatusOr<nlohmann::json> run_trial(const TrialSpec& spec, const std::filesystem::path& folder,
                                         const Registry& registry, Accelerator& accelerator,
                                         const std::function<void(const TrialProgress&)>& progress);

// The row of a trial that has no result: what is known of it, with a status and a sentence.
nlohmann::json unfinished_trial_row(const TrialSpec& spec, const Accelerator& accelerator, const std::string& status,
                                    const std::string& message);

}  // namespace hippodrome
