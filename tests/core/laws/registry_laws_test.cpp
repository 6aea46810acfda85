#include <gmock/gmock.h>

#include "architectures/registry.h"
#include "core/io/toml.h"
#include "core/laws/laws.h"
#include "core/tensor/memory_meter.h"

// Every law for every layer of the project, with its defaults and with further configs that reach its other paths.
namespace hippodrome::registry_laws_test {
namespace {

struct Case {
  std::string layer;
  std::string config;  // assignments as TOML; empty: the defaults
  int64_t width = 8;
};

// Configs beyond the defaults. One of a layer that is not there fails: a layer that was renamed loses no test.
std::vector<Case> further_cases() {
  return {};
}

const Registry& registry() {
  static const Registry all = [] {
    Registry registry;
    register_all(registry);
    return registry;
  }();
  return all;
}

std::vector<Case> cases() {
  std::vector<Case> result;
  for (const LayerEntry& entry : registry().layers()) result.push_back({entry.name, ""});
  for (const Case& further : further_cases()) result.push_back(further);
  return result;
}

std::string name_of(const testing::TestParamInfo<Case>& info) {
  std::string name = info.param.layer + (info.param.config.empty() ? "" : "_" + info.param.config) +
                     (info.param.width == 8 ? "" : "_width" + std::to_string(info.param.width));
  std::string letters;
  for (const char c : name) {
    if (std::isalnum(static_cast<unsigned char>(c))) letters += c;
    else if (!letters.empty() && letters.back() != '_') letters += '_';
  }
  return letters;
}

class RegisteredLayers : public testing::TestWithParam<std::tuple<Case, size_t>> {};

}  // namespace
}  // namespace hippodrome::registry_laws_test
