#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "core/base/config.h"
#include "core/base/status.h"

// Recipes: TOML 1.0 without dates and times. Every value remembers its line; tables keep the order written.
namespace hippodrome {

// Reads a recipe; messages call the file `path`.
absl::StatusOr<ConfigValue> read_toml_file(const std::filesystem::path& path);

// Reads `text`; messages and locations call it `name`. A syntax error reads "name:line:column: …".
absl::StatusOr<ConfigValue> parse_toml(std::string_view text, std::string name);

// Applies an assignment of the command line to `root`, which is left as it was when this fails:
//   training.steps=100   models.0.width=64   models.mamba.width=64   scale.lengths=[256, 512]   name=a bare string
// A step into a list is an index or the `name` of one of its tables. The value is TOML, else a bare string. A key that is
// nowhere yet is added, so that the reader of the recipe can complain about "--set a.b=c" with the nearest valid key.
absl::Status apply_override(ConfigValue& root, std::string_view assignment);

}  // namespace hippodrome
