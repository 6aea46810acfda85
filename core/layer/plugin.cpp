#include "core/layer/plugin.h"

#include <dlfcn.h>

namespace hippodrome {

absl::Status load_plugin(const std::string& path, Registry& registry) {
  // A bare name would be searched in system folders, where a plug-in never is.
  const std::string file = path.find('/') == std::string::npos ? "./" + path : path;
  void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) return absl::InvalidArgumentError("the plug-in " + path + " cannot be loaded: " + dlerror());
  const auto version = reinterpret_cast<int (*)()>(dlsym(library, "hippodrome_plugin_version"));
  const auto add = reinterpret_cast<void (*)(Registry&)>(dlsym(library, "hippodrome_register"));
  if (!version || !add) {
    return absl::InvalidArgumentError("the plug-in " + path + " does not define " +
                                      (version ? "hippodrome_register" : "hippodrome_plugin_version") +
                                      " with C linkage (core/layer/plugin.h)");
  }
  if (const int built_for = version(); built_for != kPluginVersion) {
    return absl::InvalidArgumentError("the plug-in " + path + " was built for plug-in version " + std::to_string(built_for) +
                                      ", this program has " + std::to_string(kPluginVersion) + ": build it again");
  }
  add(registry);
  return absl::OkStatus();
}

}  // namespace hippodrome
