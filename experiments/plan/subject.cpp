#include "experiments/plan/subject.h"

#include <filesystem>

#include "architectures/huggingface/checkpoint.h"
#include "core/io/toml.h"
#include "experiments/model_folder.h"
#include "experiments/plan/warnings.h"
#include "experiments/race/cells.h"
#include "experiments/race/trial.h"
#include "experiments/recipe.h"

namespace hippodrome {
namespace plan_subject_detail {
namespace {

namespace fs = std::filesystem;

absl::StatusOr<PlanSubject> subject_of(const std::string& name, std::unique_ptr<LanguageModel> model) {
  PlanSubject subject{name, std::move(model), {}};
  subject.warnings = shape_warnings(*subject.model);
  return subject;
}

absl::StatusOr<std::vector<PlanSubject>> from_recipe(const Recipe& recipe, const SubjectOptions& options,
                                                     const Registry& registry) {
  std::vector<PlanSubject> subjects;
  for (const RecipeModel& model : recipe.models) {
    int64_t vocabulary = options.vocabulary > 0 ? options.vocabulary : recipe.scale.vocabulary;
    if (model.config.vocabulary > 0) vocabulary = model.config.vocabulary;
    ASSIGN_OR_RETURN(const ModelConfig config, matched_model(recipe, model, vocabulary, registry));
    ASSIGN_OR_RETURN(auto made, LanguageModel::make(config, vocabulary, model.path, registry));
    ASSIGN_OR_RETURN(PlanSubject subject, subject_of(model.name, std::move(made)));
    subjects.push_back(std::move(subject));
  }
  return subjects;
}

// A preset is a recipe of one model.
absl::StatusOr<std::vector<PlanSubject>> from_preset(const std::string& preset, const SubjectOptions& options,
                                                     const Registry& registry) {
  ConfigValue table;
  table.set("preset", ConfigValue(preset));
  for (const std::string& assignment : options.overrides) RETURN_IF_ERROR(apply_override(table, assignment));
  ConfigValue root;
  root.set("models", ConfigValue(ConfigValue::List{table}));
  ASSIGN_OR_RETURN(const Recipe recipe, recipe_from(std::move(root), {}, registry));
  return from_recipe(recipe, options, registry);
}

absl::StatusOr<std::vector<PlanSubject>> from_folder(const fs::path& folder, const Registry& registry) {
  std::unique_ptr<LanguageModel> model;
  if (fs::exists(folder / "config.json")) {
    ASSIGN_OR_RETURN(const huggingface::Description description, huggingface::describe_folder(folder));
    ASSIGN_OR_RETURN(model, huggingface::make_model(description, registry));
  } else if (is_model_folder(folder)) {
    ASSIGN_OR_RETURN(const ModelFolder described, read_model_folder(folder));
    ASSIGN_OR_RETURN(model, LanguageModel::make(described.config, described.config.vocabulary, "config", registry));
  } else if (fs::exists(folder / "trial.json")) {
    ASSIGN_OR_RETURN(const TrialSpec spec, read_trial_spec(folder));
    ASSIGN_OR_RETURN(const auto task, make_task(spec.task, spec.task_keys, "tasks." + spec.task_name));
    ASSIGN_OR_RETURN(model, make_model(spec, *task, registry));
  } else {
    return absl::NotFoundError(folder.string() + " holds no model: give a folder with a config.json, a model.json or a trial.json");
  }
  fs::path named = folder.lexically_normal();
  if (!named.has_filename()) named = named.parent_path();
  ASSIGN_OR_RETURN(PlanSubject subject, subject_of(named.filename().string(), std::move(model)));
  std::vector<PlanSubject> subjects;
  subjects.push_back(std::move(subject));
  return subjects;
}

}  // namespace
}  // namespace plan_subject_detail

absl::StatusOr<std::vector<PlanSubject>> plan_subjects(const std::string& what, const SubjectOptions& options,
                                                       const Registry& registry) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (fs::is_directory(what, error)) {
    if (!options.overrides.empty()) {
      return absl::InvalidArgumentError("--set changes presets and recipes, not the model in " + what);
    }
    return plan_subject_detail::from_folder(what, registry);
  }
  if (fs::is_regular_file(what, error)) {
    ASSIGN_OR_RETURN(const Recipe recipe, read_recipe(what, options.overrides, registry));
    return plan_subject_detail::from_recipe(recipe, options, registry);
  }
  const MisreadName misread = misread_name(what);
  const auto preset = registry.preset(misread.preset);
  if (!preset.ok()) {
    return absl::NotFoundError(std::string(preset.status().message()) + "; nor is there a recipe or folder of that name");
  }
  ASSIGN_OR_RETURN(auto subjects, plan_subject_detail::from_preset(misread.preset, options, registry));
  if (!misread.warning.empty()) subjects[0].warnings.insert(subjects[0].warnings.begin(), misread.warning);
  return subjects;
}

}  // namespace hippodrome
