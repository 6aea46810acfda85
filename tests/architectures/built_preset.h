// Presets as models on the meta device.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "architectures/registry.h"
#include "core/io/toml.h"
#include "core/model/language_model.h"

namespace hippodrome::built_preset {

inline const Registry& everything() {
  static const Registry registry = [] {
    Registry filled;
    register_all(filled);
    return filled;
  }();
  return registry;
}

// The preset with the keys of `more`, in TOML, over its own; `vocabulary` is of presets that leave theirs to the task.
// Null, and a failure of the test, where there is none.
inline std::unique_ptr<LanguageModel> build(const std::string& preset, const std::string& more = "",
                                            int64_t vocabulary = 256) {
  const auto entry = everything().preset(preset);
  if (!entry.ok()) {
    ADD_FAILURE() << entry.status();
    return nullptr;
  }
  ConfigValue table = *parse_toml((*entry)->toml, "preset " + preset);
  if (!more.empty()) table.merge(*parse_toml(more, "test"));
  const auto config = read_config<ModelConfig>(table, "models");
  if (!config.ok()) {
    ADD_FAILURE() << config.status();
    return nullptr;
  }
  auto model =
      LanguageModel::make(*config, config->vocabulary > 0 ? config->vocabulary : vocabulary, "models", everything());
  if (!model.ok()) {
    ADD_FAILURE() << model.status();
    return nullptr;
  }
  return *std::move(model);
}

}  // namespace hippodrome::built_preset
