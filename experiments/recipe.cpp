#include "experiments/recipe.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <set>

#include "core/base/text.h"
#include "core/io/toml.h"

namespace hippodrome {
namespace {

// A [[models]] table with its preset laid underneath.
absl::StatusOr<ConfigValue> expand_preset(const ConfigValue& table, const Registry& registry) {
  const ConfigValue* preset = table.find("preset");
  if (!preset) return table;
  if (!preset->string()) {
    return absl::InvalidArgumentError(preset->where().text() + ": \"preset\" must be a string");
  }
  const auto entry = registry.preset(*preset->string());
  if (!entry.ok()) {
    return absl::NotFoundError(preset->where().text() + ": " + std::string(entry.status().message()));
  }
  ASSIGN_OR_RETURN(ConfigValue expanded, parse_toml((*entry)->toml, "preset " + (*entry)->name));
  ConfigValue over = table;
  over.erase("preset");
  ConfigValue result(ConfigValue::Table{}, table.where());
  result.merge(expanded);
  result.merge(over);
  return result;
}

absl::StatusOr<RecipeModel> read_model(const ConfigValue& table, const Registry& registry) {
  ASSIGN_OR_RETURN(const ConfigValue expanded, expand_preset(table, registry));
  RecipeModel model;
  const ConfigValue* preset = table.find("preset");
  if (preset && preset->string()) model.name = *preset->string();
  if (const ConfigValue* name = table.find("name"); name && name->string()) model.name = *name->string();
  if (model.name.empty()) {
    return absl::InvalidArgumentError(table.where().text() + ": a [[models]] entry needs a name or a preset");
  }
  model.path = "models." + model.name;
  ReadFields fields(expanded, model.path);
  fields.text("name", model.name, "what tables and charts call the model");
  fields.tree("training", model.training, "training keys of this model alone");
  model.config.bind(fields);
  RETURN_IF_ERROR(fields.finish());
  return model;
}

absl::StatusOr<RecipeTask> read_task(const ConfigValue& table) {
  RecipeTask task;
  for (const auto& [key, value] : *table.table()) {
    if (key == "name" || key == "task") {
      if (!value.string()) return absl::InvalidArgumentError(value.where().text() + ": \"" + key + "\" must be a string");
      (key == "name" ? task.name : task.task) = *value.string();
    } else if (key == "training") {
      task.training = value;
    } else {
      task.keys.set(key, value);
    }
  }
  if (task.task.empty()) task.task = task.name;
  if (task.name.empty()) task.name = task.task;
  if (task.name.empty()) {
    return absl::InvalidArgumentError(table.where().text() + ": a [[tasks]] entry needs a task, e.g. task = \"text\"");
  }
  task.path = "tasks." + task.name;
  return task;
}

// The tables of a list of tables; each under the name of the list in messages.
absl::StatusOr<std::vector<const ConfigValue*>> tables_of(const ConfigValue& root, const std::string& key) {
  std::vector<const ConfigValue*> result;
  const ConfigValue* list = root.find(key);
  if (!list) return result;
  if (!list->list()) return absl::InvalidArgumentError(list->where().text() + ": write [[" + key + "]], one table per entry");
  for (const ConfigValue& entry : *list->list()) {
    if (!entry.table()) return absl::InvalidArgumentError(entry.where().text() + ": entries of [[" + key + "]] are tables");
    result.push_back(&entry);
  }
  return result;
}

// Lists that are counted over: one value at least, and none twice.
template <class T>
absl::Status check_list(const std::vector<T>& values, const std::string& key) {
  if (values.empty()) return absl::InvalidArgumentError(key + " is empty: give one value at least, or leave the key out");
  if (std::set<T>(values.begin(), values.end()).size() < values.size()) {
    return absl::InvalidArgumentError(key + " holds a value twice");
  }
  return absl::OkStatus();
}

template <class Entries>
absl::Status check_unique(const Entries& entries, const std::string& kind) {
  std::set<std::string> seen;
  for (const auto& entry : entries) {
    if (!seen.insert(entry.name).second) {
      return absl::InvalidArgumentError("two " + kind + " are called \"" + entry.name + "\": give one another name");
    }
    if (entry.name.empty() || entry.name.find_first_of("/\\ \t\n") != std::string::npos || entry.name[0] == '.') {
      return absl::InvalidArgumentError("\"" + entry.name + "\" cannot name one of the " + kind +
                                        ": it becomes part of a folder's name, so use letters, digits, - and _");
    }
  }
  return absl::OkStatus();
}

}  // namespace

void MatchConfig::bind(Fields& fields) {
  fields.number("parameters", parameters, {0.0, 1e13}, "every model's width is solved for this many parameters");
  fields.number("tolerance", tolerance, {1e-6, 0.5}, "allowed relative difference");
}

void ScaleConfig::bind(Fields& fields) {
  constexpr int64_t kMany = int64_t{1} << 40;
  fields.integers("lengths", lengths, {1, kMany}, "sequence lengths, rising");
  fields.texts("phases", phases, "of train, prefill, decode");
  fields.integer("vocabulary", vocabulary, {2, int64_t{1} << 31}, "token ids");
  fields.integer("tokens_per_step", tokens_per_step, {0, kMany}, "of a training step at any length; 0: the longest length");
  fields.integer("decode_tokens", decode_tokens, {1, 1 << 20}, "tokens per decoding sample");
  fields.integer("repeats", repeats, {1, 10000}, "samples per point");
  fields.number("seconds", seconds, {0.01, 1e6}, "time cap per model, length and phase");
  fields.choice("dtype", dtype, {"float32", "bfloat16"}, "compute dtype");
}

absl::StatusOr<int64_t> parse_bytes(const std::string& text) {
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  std::string unit(end);
  while (!unit.empty() && std::isspace(static_cast<unsigned char>(unit.front()))) unit.erase(0, 1);
  const std::vector<std::pair<std::string, double>> units = {
      {"", 1.0},   {"B", 1.0},          {"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0},
      {"KB", 1e3}, {"kB", 1e3},         {"MB", 1e6},     {"GB", 1e9},        {"TiB", 1099511627776.0}};
  for (const auto& [name, factor] : units) {
    if (unit == name && end != text.c_str() && number >= 0.0 && number * factor < 9e18) {
      return static_cast<int64_t>(number * factor);
    }
  }
  return absl::InvalidArgumentError("\"" + text + "\" is not an amount of memory: write it like 8GiB or 500MB");
}

absl::StatusOr<TrainingConfig> training_for(const Recipe& recipe, const RecipeModel& model, const RecipeTask& task) {
  ConfigValue merged = recipe.training;
  merged.merge(task.training);
  merged.merge(model.training);
  return read_config<TrainingConfig>(merged, "training");
}

absl::StatusOr<Recipe> recipe_from(ConfigValue root, const std::vector<std::string>& overrides,
                                   const Registry& registry) {
  for (const std::string& assignment : overrides) {
    RETURN_IF_ERROR(apply_override(root, assignment));
  }
  Recipe recipe;
  ConfigValue models, tasks, scale, match;
  ReadFields fields(root, "recipe");
  fields.text("name", recipe.name, "names the run's folder");
  fields.text("description", recipe.description, "one paragraph for the report");
  fields.integers("seeds", recipe.seeds, {0, int64_t{1} << 62}, "one trial per model, task and seed");
  fields.integer("threads", recipe.threads, {0, 4096}, "0: all cores");
  fields.text("memory", recipe.memory, "cap per trial or point, e.g. \"8GiB\"");
  fields.choice("matmul", recipe.matmul, {"auto", "mkl", "onednn"}, "matrix library; auto: the faster, measured once per run");
  fields.tree("match", match, "size matching");
  fields.tree("training", recipe.training, "training keys of every trial");
  fields.tree("models", models, "the runners");
  fields.tree("tasks", tasks, "what they race on");
  fields.tree("scale", scale, "what is measured over sequence lengths");
  RETURN_IF_ERROR(fields.finish());
  ASSIGN_OR_RETURN(recipe.match, read_config<MatchConfig>(match, "match"));
  recipe.has_scale = root.find("scale") != nullptr;
  ASSIGN_OR_RETURN(recipe.scale, read_config<ScaleConfig>(scale, "scale"));
  for (const std::string& phase : recipe.scale.phases) {
    const std::vector<std::string> known = {"train", "prefill", "decode"};
    if (std::find(known.begin(), known.end(), phase) == known.end()) {
      return absl::InvalidArgumentError(root.find("scale")->where().text() + ": unknown phase \"" + phase + "\" in [scale]" +
                                        suggestion(phase, known));
    }
  }
  RETURN_IF_ERROR(check_list(recipe.seeds, "seeds"));
  RETURN_IF_ERROR(check_list(recipe.scale.lengths, "lengths in [scale]"));
  RETURN_IF_ERROR(check_list(recipe.scale.phases, "phases in [scale]"));
  if (!recipe.memory.empty()) {
    if (const auto bytes = parse_bytes(recipe.memory); !bytes.ok()) return bytes.status();
  }
  ASSIGN_OR_RETURN(const auto model_tables, tables_of(root, "models"));
  for (const ConfigValue* table : model_tables) {
    ASSIGN_OR_RETURN(RecipeModel model, read_model(*table, registry));
    recipe.models.push_back(std::move(model));
  }
  ASSIGN_OR_RETURN(const auto task_tables, tables_of(root, "tasks"));
  for (const ConfigValue* table : task_tables) {
    ASSIGN_OR_RETURN(RecipeTask task, read_task(*table));
    recipe.tasks.push_back(std::move(task));
  }
  RETURN_IF_ERROR(check_unique(recipe.models, "models"));
  RETURN_IF_ERROR(check_unique(recipe.tasks, "tasks"));
  if (recipe.models.empty()) {
    return absl::InvalidArgumentError("the recipe has no models: add [[models]] with preset = \"mamba\", for example");
  }
  for (const RecipeTask& task : recipe.tasks) {
    for (const RecipeModel& model : recipe.models) {
      RETURN_IF_ERROR(training_for(recipe, model, task).status());
    }
  }
  recipe.source = std::move(root);
  return recipe;
}

absl::StatusOr<Recipe> read_recipe(const std::filesystem::path& file, const std::vector<std::string>& overrides,
                                   const Registry& registry) {
  ASSIGN_OR_RETURN(ConfigValue root, read_toml_file(file));
  if (!root.find("name")) root.set("name", ConfigValue(file.stem().string()));
  return recipe_from(std::move(root), overrides, registry);
}

}  // namespace hippodrome
