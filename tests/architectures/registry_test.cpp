#include "architectures/registry.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/randint.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "core/io/toml.h"
#include "core/model/language_model.h"

namespace hippodrome::registry_test {
namespace {

Registry full_registry() {
  Registry registry;
  register_all(registry);
  return registry;
}

std::unique_ptr<LanguageModel> model_of(const Registry& registry, const std::string& preset, int64_t vocabulary,
                                        const std::string& more = "") {
  const PresetEntry* entry = *registry.preset(preset);
  auto table = parse_toml(entry->toml, "preset " + preset);
  EXPECT_TRUE(table.ok()) << table.status();
  if (!more.empty()) table->merge(*parse_toml(more, "test"));
  const auto config = read_config<ModelConfig>(*table, "models");
  EXPECT_TRUE(config.ok()) << config.status();
  auto model = LanguageModel::make(*config, vocabulary, "models", registry);
  EXPECT_TRUE(model.ok()) << model.status();
  return *std::move(model);
}

TEST(Registry, NamesAreUniqueAndDocumented) {
  const Registry registry = full_registry();
  std::set<std::string> names;
  for (const LayerEntry& layer : registry.layers()) {
    EXPECT_TRUE(names.insert(layer.name).second) << layer.name;
    EXPECT_FALSE(layer.doc.empty()) << layer.name;
    DescribeFields fields;
    layer.describe(fields);
    for (const FieldDescription& field : fields.result)
      EXPECT_FALSE(field.doc.empty()) << layer.name << "." << field.key;
  }
}

// A layer's keys must not be those of the block around it, which takes them out of the table first.
TEST(Registry, LayerKeysDoNotCollideWithTheBlocks) {
  const Registry registry = full_registry();
  DescribeFields block;
  BlockConfig().bind(block);
  for (const LayerEntry& layer : registry.layers()) {
    DescribeFields fields;
    layer.describe(fields);
    for (const FieldDescription& field : fields.result) {
      for (const FieldDescription& taken : block.result) EXPECT_NE(field.key, taken.key) << layer.name;
    }
  }
}

TEST(Registry, EveryPresetBuildsAndRuns) {
  const Registry registry = full_registry();
  const at::NoGradGuard inference;
  for (const PresetEntry& preset : registry.presets()) {
    const auto model = model_of(registry, preset.name, 50);
    if (model->vocabulary() != 50) continue;  // a published size, with a vocabulary of its own
    model->parameters().materialise(1, at::TensorOptions().dtype(at::kFloat));
    const at::Tensor tokens = at::randint(50, {2, 12}, at::kLong);
    const Context context = Context::plain(2, 12, 0, tokens.device());
    ModelState state;
    if (model->encoder()) {
      const EncodedSource source = model->encode(at::randint(50, {2, 9}, at::kLong), Context::plain(2, 9, 0, tokens.device()));
      state = model->initial_state(2, 12, &source);
    }
    const at::Tensor logits = model->logits(model->hidden(tokens, context, model->encoder() ? &state : nullptr));
    EXPECT_EQ(logits.sizes(), at::IntArrayRef({2, 12, 50})) << preset.name;
    EXPECT_TRUE(logits.isfinite().all().item().toBool()) << preset.name;
    // Racing sizes: comparable without any key set.
    const int64_t body = model->parameters().count() - 50 * 128;
    EXPECT_GT(body, 300'000) << preset.name;
    EXPECT_LT(body, 700'000) << preset.name;
  }
}

TEST(Registry, PublishedModelsHaveTheirParameterCounts) {
  const Registry registry = full_registry();
  EXPECT_EQ(model_of(registry, "mamba", 50280, "width = 768\nrepeats = 24")->parameters().count(), 129135360);
  EXPECT_EQ(model_of(registry, "rwkv", 50277, "width = 768\nrepeats = 12")->parameters().count(), 169342464);
}

TEST(Registry, AWrongKeyOfALayerIsNamed) {
  const Registry registry = full_registry();
  const auto table = *parse_toml("pattern = [\"attention\"]\n[blocks.attention]\nhead = 2", "recipe.toml");
  const auto config = *read_config<ModelConfig>(table, "models");
  const auto model = LanguageModel::make(config, 10, "models", registry);
  ASSERT_FALSE(model.ok());
  EXPECT_NE(std::string(model.status().message()).find("recipe.toml:3"), std::string::npos) << model.status();
  EXPECT_NE(std::string(model.status().message()).find("heads"), std::string::npos) << model.status();
}

}  // namespace
}  // namespace hippodrome::registry_test
