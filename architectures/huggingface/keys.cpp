#include "architectures/huggingface/keys.h"

#include <cctype>
#include <cmath>
#include <limits>

namespace hippodrome::huggingface {
namespace keys_detail {
namespace {

constexpr char kFloat[] = "__float__";
// Tables within tables that are followed: those of keys that are read have one level.
constexpr int kDeepest = 4;

// Bare Infinity, -Infinity and NaN, which JSON lacks, become what version 5 writes instead.
std::string without_bare_numbers(std::string_view text) {
  std::string result;
  bool quoted = false;
  for (size_t i = 0; i < text.size();) {
    if (quoted && text[i] == '\\' && i + 1 < text.size()) {
      result.append(text.substr(i, 2));
      i += 2;
      continue;
    }
    if (text[i] == '"') quoted = !quoted;
    bool replaced = false;
    for (const std::string_view word : {"-Infinity", "Infinity", "NaN"}) {
      if (quoted || text.substr(i, word.size()) != word) continue;
      result.append("{\"").append(kFloat).append("\":\"").append(word).append("\"}");
      i += word.size();
      replaced = true;
      break;
    }
    if (!replaced) result += text[i++];
  }
  return result;
}

// An object {"__float__": "Infinity"} as the number it stands for; others are null.
const Json* float_word(const Json& json) {
  if (!json.is_object() || json.size() != 1) return nullptr;
  const auto word = json.find(kFloat);
  return word != json.end() && word->is_string() ? &*word : nullptr;
}

double float_of(const std::string& word) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  return word == "Infinity" ? infinity : word == "-Infinity" ? -infinity : std::numeric_limits<double>::quiet_NaN();
}

ConfigValue config_of(const Json& json, const SourceLocation& where, int depth) {
  if (json.is_boolean()) return ConfigValue(json.get<bool>(), where);
  if (json.is_number_unsigned() && json.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return ConfigValue(json.get<double>(), where);
  }
  if (json.is_number_integer()) return ConfigValue(json.get<int64_t>(), where);
  if (json.is_number()) return ConfigValue(json.get<double>(), where);
  if (json.is_string()) return ConfigValue(json.get<std::string>(), where);
  if (const Json* word = float_word(json)) return ConfigValue(float_of(word->get<std::string>()), where);
  if (json.is_array()) {
    ConfigValue::List list;
    if (depth < kDeepest) {
      for (const Json& entry : json) list.push_back(config_of(entry, where, depth + 1));
    }
    return ConfigValue(std::move(list), where);
  }
  ConfigValue table(ConfigValue::Table{}, where);
  if (json.is_object() && depth < kDeepest) {
    for (const auto& [key, value] : json.items()) {
      if (!value.is_null()) table.table()->emplace_back(key, config_of(value, where, depth + 1));
    }
  }
  return table;
}

}  // namespace
}  // namespace keys_detail

absl::StatusOr<Json> parse_json(std::string_view text, const std::string& file) {
  const std::string plain = keys_detail::without_bare_numbers(text);
  // The parser stops at a zero byte as if the text ended there.
  Json json = plain.find('\0') == std::string::npos ? Json::parse(plain, nullptr, /*allow_exceptions=*/false)
                                                    : Json(Json::value_t::discarded);
  if (!json.is_object()) return absl::DataLossError(file + ": this is not a JSON object");
  return json;
}

ConfigValue select_keys(const Json& json, const std::vector<FieldDescription>& wanted, const std::string& file) {
  const SourceLocation where{file, 0};
  ConfigValue table(ConfigValue::Table{}, where);
  if (!json.is_object()) return table;
  for (const FieldDescription& field : wanted) {
    const auto found = json.find(field.key);
    if (found == json.end()) continue;
    const bool integer = field.type.starts_with("integer");
    if (integer && (found->is_null() || *found == "auto")) {
      table.set(field.key, ConfigValue(int64_t{0}, where));
    } else if (!found->is_null()) {
      table.set(field.key, keys_detail::config_of(*found, where, 0));
    }
  }
  return table;
}

Json json_of(const ConfigValue& value) {
  if (const bool* boolean = value.boolean()) return *boolean;
  if (const int64_t* integer = value.integer()) return *integer;
  if (const double* real = value.real()) {
    if (std::isfinite(*real)) return *real;
    Json word = Json::object();
    word[keys_detail::kFloat] = std::isnan(*real) ? "NaN" : *real > 0.0 ? "Infinity" : "-Infinity";
    return word;
  }
  if (const std::string* string = value.string()) return *string;
  if (const ConfigValue::List* list = value.list()) {
    Json array = Json::array();
    for (const ConfigValue& entry : *list) array.push_back(json_of(entry));
    return array;
  }
  Json object = Json::object();
  for (const auto& [key, entry] : *value.table()) object[key] = json_of(entry);
  return object;
}

absl::Status unsupported(const std::string& file, const std::string& what) {
  return absl::UnimplementedError(file + ": " + what);
}

}  // namespace hippodrome::huggingface
