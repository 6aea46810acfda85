#include <gtest/gtest.h>

#include "architectures/registry.h"
#include "core/io/toml.h"
#include "core/model/language_model.h"

namespace hippodrome::mamba_presets_test {
namespace {

// Built on the meta device: no size is too large.
int64_t parameters_of(const Registry& registry, const std::string& preset) {
  const auto table = parse_toml((*registry.preset(preset))->toml, "preset " + preset);
  const auto config = read_config<ModelConfig>(*table, "models");
  const auto model = LanguageModel::make(*config, 256, "models", registry);
  EXPECT_TRUE(model.ok()) << model.status();
  return (*model)->parameters().count();
}

TEST(MambaPresets, HaveThePublishedParameterCounts) {
  Registry registry;
  register_all(registry);
  const std::pair<const char*, int64_t> published[] = {
      {"mamba-130m", 129135360},   {"mamba-370m", 371516416},   {"mamba-790m", 793204224},  {"mamba-1.4b", 1372178432},
      {"mamba-2.8b", 2768345600},  {"mamba2-130m", 128989632},  {"mamba2-370m", 368346624}, {"mamba2-780m", 780161280},
      {"mamba2-1.3b", 1343757312}, {"mamba2-2.7b", 2702599680},
  };
  for (const auto& [preset, count] : published) EXPECT_EQ(parameters_of(registry, preset), count) << preset;
}

}  // namespace
}  // namespace hippodrome::mamba_presets_test
