#pragma once

#include <filesystem>
#include <memory>

#include "core/data/task.h"
#include "experiments/race/trial.h"

namespace hippodrome {

// A trained model of a race, ready to use.
struct TrainedModel {
  TrialSpec spec;
  std::unique_ptr<Task> task;
  std::unique_ptr<LanguageModel> model;
  std::filesystem::path checkpoint;
};

// Reads the newest checkpoint of a trial. `folder` is the trial's (it holds trial.json), or a run with a single trial; for a run
// with several, the error lists them.
absl::StatusOr<TrainedModel> load_trained(const std::filesystem::path& folder, const Registry& registry);

}  // namespace hippodrome
