#include <gtest/gtest.h>

#include <string>

#include "architectures/registry.h"
#include "core/io/toml.h"
#include "core/model/language_model.h"
#include "core/tensor/memory_meter.h"

// Totals of the published mixtures, on the meta device.
namespace hippodrome::mixture_presets_test {
namespace {

std::unique_ptr<LanguageModel> preset(const std::string& name, const std::string& more = "") {
  static const Registry registry = [] {
    Registry all;
    register_all(all);
    return all;
  }();
  auto table = *parse_toml((*registry.preset(name))->toml, "preset " + name);
  if (!more.empty()) table.merge(*parse_toml(more, "test"));
  const auto config = read_config<ModelConfig>(table, "models");
  EXPECT_TRUE(config.ok()) << config.status();
  auto model = LanguageModel::make(*config, 256, "models", registry);
  EXPECT_TRUE(model.ok()) << model.status();
  return std::move(*model);
}

struct Published {
  std::string name;
  int64_t total, active;
};

TEST(MixturePresets, HaveThePublishedTotalsAndActives) {
  memory_meter::install();
  memory_meter::reset_peak();
  const int64_t before = memory_meter::current_bytes();
  for (const Published& published : {Published{"mixtral-8x7b", 46'702'792'704, 12'879'925'248},
                                     Published{"mixtral-8x22b", 140'630'071'296, 39'161'468'928}}) {
    const auto model = preset(published.name);
    EXPECT_EQ(model->parameters().count(), published.total) << published.name;
    EXPECT_EQ(model->active_parameters(), published.active) << published.name;
  }
  EXPECT_LT(memory_meter::peak_bytes() - before, 1 << 20) << "built without memory";
}

TEST(MixturePresets, AModelWithoutExpertsIsAllActive) {
  const auto model = preset("transformer");
  EXPECT_EQ(model->active_parameters(), model->parameters().count());
}

}  // namespace
}  // namespace hippodrome::mixture_presets_test
