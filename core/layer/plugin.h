#pragma once

#include <string>

#include "core/layer/registry.h"

namespace hippodrome {

// Raised whenever Layer, State, Context or Registry change, so that a plug-in built against another version is refused rather
// than crashes.
inline constexpr int kPluginVersion = 1;

// Loads a shared library that adds layers and presets. It defines, with C linkage:
//   int hippodrome_plugin_version() { return hippodrome::kPluginVersion; }
//   void hippodrome_register(hippodrome::Registry& registry) { registry.add(…); }
// One sentence when it cannot be loaded, lacks a function, or was built for another version.
absl::Status load_plugin(const std::string& path, Registry& registry);

}  // namespace hippodrome
