#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/config.h"

// The keys of a config.json, read and written by the same visitor as recipes: a struct binds those that matter to it.
namespace hippodrome::huggingface {

using Json = nlohmann::json;  // sorted by key, as transformers writes it

// Parses config.json, or an index. Infinity and NaN are read bare, as transformers 4 writes them, and as version 5's
// {"__float__": "Infinity"}. Messages call the file `file`.
absl::StatusOr<Json> parse_json(std::string_view text, const std::string& file);

// The entries of the object `json` that `wanted` describes. null is left out, but is 0 for an integer, as is "auto".
ConfigValue select_keys(const Json& json, const std::vector<FieldDescription>& wanted, const std::string& file);

// Reads what `keys` binds over its values, which are the defaults of the family; other keys are not looked at. Errors
// name the file and the key; `path` is that of a table within the file, or empty.
template <class Keys>
absl::StatusOr<Keys> read_keys(const Json& json, const std::string& file, Keys keys, std::string path = "") {
  DescribeFields described;
  Keys(keys).bind(described);
  const ConfigValue table = select_keys(json, described.result, file);
  ReadFields fields(table, std::move(path));
  keys.bind(fields);
  RETURN_IF_ERROR(fields.finish());
  return keys;
}

Json json_of(const ConfigValue& value);

template <class Keys>
Json write_keys(Keys keys) {
  WriteFields fields;
  keys.bind(fields);
  return json_of(fields.result);
}

// Unimplemented "file: what": an option of the file that is not computed here. Starts with the key.
absl::Status unsupported(const std::string& file, const std::string& what);

}  // namespace hippodrome::huggingface
