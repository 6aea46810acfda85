#include <gtest/gtest.h>

#include "architectures/presets/presets.h"
#include "architectures/registry.h"
#include "core/io/toml.h"
#include "core/model/language_model.h"

namespace hippodrome::rwkv_presets_test {
namespace {

// 2 V D + 13 D² L + D (11 L + 4), table 2 of arXiv 2305.13048.
TEST(RwkvPresets, CountAsPublished) {
  Registry registry;
  register_all(registry);
  const std::pair<const char*, int64_t> published[] = {
      {"rwkv-4-169m", 169'342'464},   {"rwkv-4-430m", 430'397'440},   {"rwkv-4-1.5b", 1'515'106'304},
      {"rwkv-4-3b", 2'984'627'200},   {"rwkv-4-7b", 7'392'649'216},   {"rwkv-4-14b", 14'148'597'760},
  };
  for (const auto& [name, parameters] : published) {
    const auto preset = registry.preset(name);
    ASSERT_TRUE(preset.ok()) << preset.status();
    const auto config = read_config<ModelConfig>(*parse_toml((*preset)->toml, name), "models");
    ASSERT_TRUE(config.ok()) << config.status();
    const auto model = LanguageModel::make(*config, 256, "models", registry);
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ((*model)->vocabulary(), 50277) << name;
    EXPECT_EQ((*model)->parameters().count(), parameters) << name;
  }
}

}  // namespace
}  // namespace hippodrome::rwkv_presets_test
