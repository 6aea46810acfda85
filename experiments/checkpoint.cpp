#include "experiments/checkpoint.h"

#include "architectures/huggingface/checkpoint.h"
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
  if (trials.empty()) {
    return absl::NotFoundError(folder.string() + " holds no model: give a folder with a config.json, a model.json or a trial.json");
  }
  return absl::InvalidArgumentError(folder.string() + " holds several trials; name one of " + join(trials, ", "));
}

at::ScalarType at_rest(at::ScalarType dtype) { return dtype == at::kDouble ? at::kDouble : at::kFloat; }

absl::StatusOr<LoadedModel> load_trial(const fs::path& folder, const Registry& registry, std::optional<at::ScalarType> dtype) {
  LoadedModel loaded;
  ASSIGN_OR_RETURN(loaded.folder, trial_folder(folder));
  ASSIGN_OR_RETURN(loaded.trial, read_trial_spec(loaded.folder));
  const TrialSpec& spec = *loaded.trial;
  ASSIGN_OR_RETURN(loaded.task, make_task(spec.task, spec.task_keys, "tasks." + spec.task_name));
  ASSIGN_OR_RETURN(loaded.model, make_model(spec, *loaded.task, registry));
  loaded.name = spec.model_name;
  loaded.config = spec.model;
  loaded.config.vocabulary = loaded.model->vocabulary();
  loaded.stored = "float32";
  ASSIGN_OR_RETURN(const at::ScalarType trained, parse_dtype(spec.training.dtype));
  ASSIGN_OR_RETURN(const fs::path checkpoint, latest_checkpoint(loaded.folder / "checkpoints"));
  loaded.model->parameters().allocate(at_rest(dtype.value_or(trained)));
  RETURN_IF_ERROR(load_parameters(loaded.model->parameters(), checkpoint / "model.safetensors"));
  loaded.model->set_compute_dtype(dtype.value_or(trained));
  return loaded;
}

absl::StatusOr<LoadedModel> load_imported(const fs::path& folder, const Registry& registry, at::ScalarType dtype) {
  LoadedModel loaded;
  ASSIGN_OR_RETURN(ModelFolder described, read_model_folder(folder));
  ASSIGN_OR_RETURN(loaded.model, LanguageModel::make(described.config, described.config.vocabulary, "config", registry));
  loaded.model->parameters().allocate(at_rest(dtype));
  RETURN_IF_ERROR(load_parameters(loaded.model->parameters(), folder / "model.safetensors"));
  loaded.config = std::move(described.config);
  loaded.source = std::move(described.source);
  return loaded;
}

absl::StatusOr<LoadedModel> load_huggingface(const fs::path& folder, const Registry& registry, at::ScalarType dtype) {
  LoadedModel loaded;
  ASSIGN_OR_RETURN(huggingface::Import read, huggingface::import_folder(folder, registry, at_rest(dtype)));
  loaded.model = std::move(read.model);
  loaded.config = std::move(read.description.config);
  loaded.source = std::move(read.description.json);
  loaded.stored = std::move(read.stored);
  return loaded;
}

}  // namespace

absl::StatusOr<LoadedModel> load_model(const fs::path& folder, const Registry& registry, std::optional<at::ScalarType> dtype) {
  const bool imported = is_model_folder(folder);
  if (!imported && !fs::exists(folder / "config.json")) return load_trial(folder, registry, dtype);
  const at::ScalarType computed = dtype.value_or(at::kFloat);
  ASSIGN_OR_RETURN(LoadedModel loaded, imported ? load_imported(folder, registry, computed)
                                                : load_huggingface(folder, registry, computed));
  loaded.model->set_compute_dtype(computed);
  loaded.folder = folder;
  const fs::path plain = folder.has_filename() ? folder : folder.parent_path();
  loaded.name = plain.filename().string();
  return loaded;
}

void add_model_option(CLI::App* command, std::string& folder) {
  command->add_option("model,--model", folder,
                      "a model's folder: Hugging Face's, an imported one, or a trial's (RUN/trials/TASK-MODEL-SEED)")
      ->required();
}

absl::StatusOr<at::ScalarType> parse_dtype(const std::string& name) {
  if (name == "float32") return at::kFloat;
  if (name == "float64") return at::kDouble;
  if (name == "bfloat16") return at::kBFloat16;
  return absl::InvalidArgumentError("\"" + name + "\" is no dtype: use float32, float64 or bfloat16");
}

}  // namespace hippodrome
