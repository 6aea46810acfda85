#include <gtest/gtest.h>

#include "tests/architectures/built_preset.h"

// Published Transformers, built on the meta device: what their totals (../presets_test.cpp) do not tell apart.
namespace hippodrome::transformer_presets_test {
namespace {

using built_preset::build;

// The width that some tables print for Llama 2 70B is another model's, and gives 55.9 G parameters.
TEST(TransformerPresets, TheMisprintedWidthOfLlama2GivesAnotherTotal) {
  const int64_t total = build("llama-2-70b", "[blocks.mlp]\nhidden = 22016")->parameters().count();
  EXPECT_NEAR(static_cast<double>(total), 55.9e9, 0.05e9);
}

// Bytes of 262,144 tokens in 16 bit, in GiB.
TEST(TransformerPresets, CachesHaveTheirPublishedSizes) {
  for (const auto& [preset, gib] : std::vector<std::pair<std::string, int64_t>>{{"llama-2-7b", 128},
                                                                                {"llama-2-13b", 200},
                                                                                {"llama-2-70b", 80},
                                                                                {"llama-3.1-8b", 32},
                                                                                {"llama-3.1-405b", 126},
                                                                                {"llama-3.1-405b-first-upload", 252},
                                                                                {"mistral-7b", 32},
                                                                                {"gpt2", 9}}) {
    const Cost cost = build(preset)->cost({.rows = 1, .length = 1, .context = (1 << 18) - 1, .element_size = 2});
    EXPECT_EQ(cost.state_bytes, gib << 30) << preset;
  }
}

}  // namespace
}  // namespace hippodrome::transformer_presets_test
