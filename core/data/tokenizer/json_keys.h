#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "core/base/status.h"

// JSON written by others, read key by key, with errors that name the file and the key.
namespace hippodrome {

using Json = nlohmann::json;

absl::StatusOr<Json> parse_json(std::string_view text, const std::string& name);

// A string of a file as messages show it: in quotes, one line, not endless.
std::string quoted(const std::string& text);

class JsonKeys {
 public:
  // Messages call the file `name`.
  explicit JsonKeys(std::string name) : name_(std::move(name)) {}

  // The entry of an object; null where there is none or `object` is something else.
  const Json& get(const Json& object, const char* key) const;
  // The entry "type", or "none" where there is none.
  std::string type(const Json& object) const;
  // A boolean at `path`.`key`; absent or null is `otherwise`.
  absl::StatusOr<bool> flag(const Json& object, const std::string& path, const char* key, bool otherwise) const;

  // "NAME: KEY MESSAGE".
  absl::Status malformed(const std::string& key, const std::string& message) const;
  // "NAME: KEY WHAT is not supported; INSTEAD".
  absl::Status unsupported(const std::string& key, const std::string& what, const std::string& instead) const;

 private:
  std::string name_;
};

}  // namespace hippodrome
