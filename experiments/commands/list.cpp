#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/data/task.h"
#include "core/base/text.h"
#include "experiments/program.h"
#include "experiments/race/summary.h"
#include "experiments/recipe.h"

namespace hippodrome {
namespace {

using nlohmann::json;

json fields_json(const std::function<void(Fields&)>& describe) {
  DescribeFields fields;
  describe(fields);
  json keys = json::array();
  for (const FieldDescription& field : fields.result) {
    keys.push_back({{"key", field.key}, {"type", field.type}, {"default", field.default_value}, {"doc", field.doc}});
  }
  return keys;
}

// Everything recipes can name.
json catalogue(const Registry& registry) {
  json result = {{"layers", json::array()}, {"presets", json::array()}, {"tasks", json::array()}};
  for (const LayerEntry& layer : registry.layers()) {
    result["layers"].push_back({{"name", layer.name}, {"family", layer.family}, {"doc", layer.doc}, {"keys", fields_json(layer.describe)}});
  }
  for (const PresetEntry& preset : registry.presets()) {
    result["presets"].push_back({{"name", preset.name}, {"doc", preset.doc}, {"toml", preset.toml}});
  }
  for (const TaskEntry& task : tasks()) {
    json entry = {{"name", task.name}, {"doc", task.doc}, {"version", task.version}, {"keys", fields_json(task.describe)}};
    result["tasks"].push_back(entry);
  }
  result["model_keys"] = fields_json([](Fields& fields) { ModelConfig().bind(fields); });
  result["training_keys"] = fields_json([](Fields& fields) { TrainingConfig().bind(fields); });
  result["scale_keys"] = fields_json([](Fields& fields) { ScaleConfig().bind(fields); });
  return result;
}

std::string key_table(const json& keys) {
  std::vector<std::vector<std::string>> table = {{"key", "type", "default", "meaning"}};
  for (const json& key : keys) table.push_back({key["key"], key["type"], key["default"], key["doc"]});
  std::string text;
  size_t widths[3] = {0, 0, 0};
  for (const auto& row : table) {
    for (int i = 0; i < 3; ++i) widths[i] = std::max(widths[i], row[static_cast<size_t>(i)].size());
  }
  for (const auto& row : table) {
    for (size_t i = 0; i < 3; ++i) text += row[i] + std::string(widths[i] - row[i].size() + 2, ' ');
    text += row[3] + "\n";
  }
  return text;
}

// One entry with its keys; NotFound when nothing has that name.
absl::StatusOr<std::string> details(const json& all, const std::string& name) {
  std::string text;
  std::vector<std::string> known;
  for (const char* kind : {"layers", "presets", "tasks"}) {
    for (const json& entry : all[kind]) {
      known.push_back(entry["name"]);
      if (entry["name"] != name) continue;
      text += std::string(kind, std::string(kind).size() - 1) + " " + name + ": " + entry["doc"].get<std::string>() + "\n";
      if (entry.contains("toml")) text += entry["toml"].get<std::string>();
      if (entry.contains("keys") && !entry["keys"].empty()) text += key_table(entry["keys"]);
      text += "\n";
    }
  }
  if (name == "model") text = key_table(all["model_keys"]);
  if (name == "training") text = key_table(all["training_keys"]);
  if (name == "scale") text = key_table(all["scale_keys"]);
  if (text.empty()) return absl::NotFoundError("nothing is called \"" + name + "\"" + suggestion(name, known));
  return text;
}

}  // namespace

void add_list(CLI::App& app, Program& program) {
  auto name = std::make_shared<std::string>();
  auto as_json = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand("list", "List layers, presets and tasks, or the keys of one of them");
  command->add_option("name", *name, "layers, presets or tasks; one of their names; or model, training, scale for those keys");
  command->add_flag("--json", *as_json, "print everything as JSON");
  on_command(command, program, [name, as_json, &program]() -> absl::StatusOr<int> {
    const json all = catalogue(program.registry);
    if (*as_json) {
      std::printf("%s\n", all.dump().c_str());
      return 0;
    }
    const bool one_kind = *name == "layers" || *name == "presets" || *name == "tasks";
    if (!name->empty() && !one_kind) {
      ASSIGN_OR_RETURN(const std::string text, details(all, *name));
      std::printf("%s", text.c_str());
      return 0;
    }
    for (const char* kind : {"layers", "presets", "tasks"}) {
      if (one_kind && *name != kind) continue;
      std::printf("%s\n", kind);
      size_t width = 0;
      for (const json& entry : all[kind]) width = std::max(width, entry["name"].get<std::string>().size());
      for (const json& entry : all[kind]) {
        std::printf("  %-*s  %s\n", static_cast<int>(width), entry["name"].get<std::string>().c_str(),
                    entry["doc"].get<std::string>().c_str());
      }
    }
    if (name->empty()) std::printf("\n`hippodrome list NAME` shows the keys of one; `list model`, `list training`, `list scale` those of a recipe's tables.\n");
    return 0;
  });
}

}  // namespace hippodrome
