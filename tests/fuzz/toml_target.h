#pragma once

#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "core/io/toml.h"
#include "nlohmann/json.hpp"
#include "tests/fuzz/check.h"

namespace hippodrome {

// A config struct with a field of every kind.
struct FuzzConfig {
  bool flag = false;
  int64_t integer = 1;
  double number = 0.5;
  std::string text;
  std::string choice = "pre";
  std::vector<int64_t> integers;
  std::vector<std::string> texts;
  ConfigValue tree;

  void bind(Fields& fields) {
    fields.flag("flag", flag, "");
    fields.integer("integer", integer, {1, 1024}, "");
    fields.number("number", number, {0.0, std::numeric_limits<double>::max()}, "");
    fields.text("text", text, "");
    fields.choice("choice", choice, {"pre", "post", "none"}, "");
    fields.integers("integers", integers, {0, std::numeric_limits<int64_t>::max()}, "");
    fields.texts("texts", texts, "");
    fields.tree("tree", tree, "");
  }
};

// `bytes`: a recipe, then any number of assignments, each behind a zero byte.
inline void fuzz_toml(std::string_view bytes) {
  const size_t recipe_end = std::min(bytes.find('\0'), bytes.size());
  absl::StatusOr<ConfigValue> root = parse_toml(bytes.substr(0, recipe_end), "recipe.toml");
  if (!root.ok()) {
    fuzz_check_sentence(std::string(root.status().message()), "recipe.toml:");
    root = ConfigValue();
  }
  bytes.remove_prefix(recipe_end);
  while (!bytes.empty()) {
    bytes.remove_prefix(1);
    const size_t end = std::min(bytes.find('\0'), bytes.size());
    const std::string before = root->json();
    if (const absl::Status status = apply_override(*root, bytes.substr(0, end)); !status.ok()) {
      fuzz_check(status.message().substr(0, 5) == "--set", "errors of an assignment begin with --set");
      fuzz_check(root->json() == before, "an assignment that fails changes nothing");
    }
    bytes.remove_prefix(end);
  }
  fuzz_check(nlohmann::json::accept(root->json()), "a tree is written as JSON: " + root->json());
  const absl::StatusOr<FuzzConfig> config = read_config<FuzzConfig>(*root, "fuzz");
  if (!config.ok()) {
    fuzz_check(!config.status().message().empty(), "errors say something");
    return;
  }
  fuzz_check(config->integer >= 1 && config->integer <= 1024, "integers are in range");
  fuzz_check(config->number >= 0.0, "numbers are in range");
  const ConfigValue written = write_config(*config);
  const absl::StatusOr<FuzzConfig> again = read_config<FuzzConfig>(written, "again");
  fuzz_check(again.ok() && write_config(*again).json() == written.json(), "what is written reads back the same");
}

}  // namespace hippodrome
