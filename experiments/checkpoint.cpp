#include "experiments/checkpoint.h"

#include "core/base/text.h"

namespace hippodrome {

namespace fs = std::filesystem;

namespace {

absl::StatusOr<fs::path> trial_folder(const fs::path& folder) {
  if (fs::exists(folder / "trial.json")) return folder;
  // A checkpoint itself, or the folder of checkpoints, is as good a name for its trial.
  for (fs::path up = folder; up.has_parent_path() && up != up.root_path(); up = up.parent_path()) {
    if (fs::exists(up.parent_path() / "trial.json")) return up.parent_path();
  }
  std::vector<std::string> trials;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder / "trials", error)) {
    if (fs::exists(entry.path() / "trial.json")) trials.push_back(entry.path().string());
  }
  if (trials.size() == 1) return fs::path(trials[0]);
  if (trials.empty()) return absl::NotFoundError(folder.string() + " holds no trial: give a folder with a trial.json");
  return absl::InvalidArgumentError(folder.string() + " holds several trials; name one of " + join(trials, ", "));
}

}  // namespace

absl::StatusOr<TrainedModel> load_trained(const fs::path& folder, const Registry& registry) {
  TrainedModel trained;
  ASSIGN_OR_RETURN(const fs::path trial, trial_folder(folder));
  ASSIGN_OR_RETURN(trained.spec, read_trial_spec(trial));
  ASSIGN_OR_RETURN(trained.task, make_task(trained.spec.task, trained.spec.task_keys, "tasks." + trained.spec.task_name));
  ASSIGN_OR_RETURN(trained.model, make_model(trained.spec, *trained.task, registry));
  ASSIGN_OR_RETURN(trained.checkpoint, latest_checkpoint(trial / "checkpoints"));
  trained.model->parameters().materialise(static_cast<uint64_t>(trained.spec.seed), at::kFloat);
  RETURN_IF_ERROR(load_parameters(trained.model->parameters(), trained.checkpoint / "model.safetensors"));
  trained.model->set_compute_dtype(trained.spec.training.dtype == "bfloat16" ? at::kBFloat16 : at::kFloat);
  return trained;
}

}  // namespace hippodrome
