#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/base/status.h"
#include "core/layer/layer.h"

namespace hippodrome {

struct LayerEntry {
  std::string name;    // as recipes call it
  std::string family;  // its folder under architectures/
  std::string doc;     // one line
  // `path` is how error sentences call the config table.
  std::function<absl::StatusOr<std::unique_ptr<Layer>>(const ConfigValue& config, const std::string& path, const Site&)>
      make;
  std::function<void(Fields&)> describe;
};

// A model by name: a recipe's [[models]] table in TOML, to be overridden key by key.
struct PresetEntry {
  std::string name;
  std::string doc;
  std::string toml;
};

// Layers and presets by name. Filled by explicit lists (architectures/registry.cpp, plug-ins), passed by reference.
class Registry {
 public:
  void add(LayerEntry entry);    // a second entry of the same name replaces the first
  void add(PresetEntry entry);

  const std::vector<LayerEntry>& layers() const { return layers_; }
  const std::vector<PresetEntry>& presets() const { return presets_; }

  // NotFound with the nearest names.
  absl::StatusOr<const LayerEntry*> layer(const std::string& name) const;
  absl::StatusOr<const PresetEntry*> preset(const std::string& name) const;

 private:
  std::vector<LayerEntry> layers_;
  std::vector<PresetEntry> presets_;
};

// The entry of a layer class L with `struct Config { void bind(Fields&); }` and a constructor L(Config, Site).
// L may offer `static absl::Status check(const Config&, const Site&)` for what a single field cannot say.
template <class L>
LayerEntry layer_entry(std::string name, std::string family, std::string doc) {
  LayerEntry entry{std::move(name), std::move(family), std::move(doc), nullptr, nullptr};
  entry.make = [](const ConfigValue& table, const std::string& path,
                  const Site& site) -> absl::StatusOr<std::unique_ptr<Layer>> {
    ASSIGN_OR_RETURN(auto config, read_config<typename L::Config>(table, path));
    if constexpr (requires { L::check(config, site); }) {
      if (absl::Status status = L::check(config, site); !status.ok()) {
        return absl::Status(status.code(), table.where().text() + ": [" + path + "] " + std::string(status.message()));
      }
    }
    return std::make_unique<L>(config, site);
  };
  entry.describe = [](Fields& fields) { typename L::Config().bind(fields); };
  return entry;
}

}  // namespace hippodrome
