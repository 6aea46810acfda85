#include "core/layer/registry.h"

#include "core/base/text.h"

namespace hippodrome {
namespace {

template <class Entry>
void add_or_replace(std::vector<Entry>& entries, Entry entry) {
  for (Entry& existing : entries) {
    if (existing.name == entry.name) {
      existing = std::move(entry);
      return;
    }
  }
  entries.push_back(std::move(entry));
}

template <class Entry>
absl::StatusOr<const Entry*> find_entry(const std::vector<Entry>& entries, const std::string& name,
                                        const std::string& kind) {
  std::vector<std::string> names;
  for (const Entry& entry : entries) {
    if (entry.name == name) return &entry;
    names.push_back(entry.name);
  }
  return absl::NotFoundError("no " + kind + " is called \"" + name + "\"" + suggestion(name, names));
}

}  // namespace

void Registry::add(LayerEntry entry) { add_or_replace(layers_, std::move(entry)); }
void Registry::add(PresetEntry entry) { add_or_replace(presets_, std::move(entry)); }

absl::StatusOr<const LayerEntry*> Registry::layer(const std::string& name) const {
  return find_entry(layers_, name, "layer");
}

absl::StatusOr<const PresetEntry*> Registry::preset(const std::string& name) const {
  return find_entry(presets_, name, "preset");
}

}  // namespace hippodrome
