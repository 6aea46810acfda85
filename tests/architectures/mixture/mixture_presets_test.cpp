#include <gtest/gtest.h>

#include <string>

#include "core/tensor/memory_meter.h"
#include "tests/architectures/built_preset.h"

// Totals of the published mixtures, on the meta device.
namespace hippodrome::mixture_presets_test {
namespace {

using built_preset::build;

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
    const auto model = build(published.name);
    EXPECT_EQ(model->parameters().count(), published.total) << published.name;
    EXPECT_EQ(model->active_parameters(), published.active) << published.name;
  }
  EXPECT_LT(memory_meter::peak_bytes() - before, 1 << 20) << "built without memory";
}

TEST(MixturePresets, AModelWithoutExpertsIsAllActive) {
  const auto model = build("transformer");
  EXPECT_EQ(model->active_parameters(), model->parameters().count());
}

}  // namespace
}  // namespace hippodrome::mixture_presets_test
