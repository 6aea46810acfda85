#pragma once

#include <filesystem>

#include "core/base/config.h"

namespace hippodrome {

// Reads a JSON object, as ConfigValue::json() writes it, back into a tree. Locations name the file without lines.
absl::StatusOr<ConfigValue> read_json_config(const std::filesystem::path& file);

}  // namespace hippodrome
