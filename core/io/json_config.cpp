#include "core/io/json_config.h"

#include <nlohmann/json.hpp>

#include "core/io/atomic_file.h"

namespace hippodrome {
namespace {

ConfigValue config_of(const nlohmann::ordered_json& json, const SourceLocation& where) {
  if (json.is_boolean()) return ConfigValue(json.get<bool>(), where);
  if (json.is_number_integer()) return ConfigValue(json.get<int64_t>(), where);
  if (json.is_number()) return ConfigValue(json.get<double>(), where);
  if (json.is_string()) return ConfigValue(json.get<std::string>(), where);
  if (json.is_array()) {
    ConfigValue::List list;
    for (const auto& entry : json) list.push_back(config_of(entry, where));
    return ConfigValue(std::move(list), where);
  }
  ConfigValue table(ConfigValue::Table{}, where);
  for (const auto& [key, value] : json.items()) table.set(key, config_of(value, where));
  return table;
}

}  // namespace

absl::StatusOr<ConfigValue> read_json_config(const std::filesystem::path& file) {
  ASSIGN_OR_RETURN(const std::string text, read_file(file));
  const auto json = nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::DataLossError(file.string() + " does not hold a JSON object");
  return config_of(json, {file.string(), 0});
}

}  // namespace hippodrome
