#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "tests/architectures/built_preset.h"

// Every preset of a published size has its source's parameter count, to the last digit.
namespace hippodrome::published_presets_test {
namespace {

using built_preset::build;
using built_preset::everything;

struct Published {
  std::string preset;
  int64_t total;
  int64_t active = 0;  // 0: the total
};

// Totals follow from the papers' and configurations' sizes; those of GPT-2 124M, Mamba 130M, RWKV-4 and Llama are also
// in print. Jamba's active count has both embedding tables, as the "12B" in its name.
const std::vector<Published> kPublished = {
    {"seq2seq-sutskever", 384'000'000},
    {"rnnencdec", 68'540'000},
    {"rnnsearch", 80'401'000},
    {"gnmt", 280'826'880},
    {"vaswani-base", 63'045'632},
    {"vaswani-big", 214'171'648},
    {"gpt2", 124'439'808},
    {"gpt2-medium", 354'823'168},
    {"gpt2-large", 774'030'080},
    {"gpt2-xl", 1'557'611'200},
    {"llama-2-7b", 6'738'415'616},
    {"llama-2-13b", 13'015'864'320},
    {"llama-2-70b", 68'976'648'192},
    {"llama-3-8b", 8'030'261'248},
    {"llama-3-70b", 70'553'706'496},
    {"llama-3.1-8b", 8'030'261'248},
    {"llama-3.1-70b", 70'553'706'496},
    {"llama-3.1-405b", 405'853'388'800},
    {"llama-3.1-405b-first-upload", 410'081'247'232},
    {"llama-3.2-1b", 1'235'814'400},
    {"mistral-7b", 7'241'732'096},
    {"mixtral-8x7b", 46'702'792'704, 12'879'925'248},
    {"mixtral-8x22b", 140'630'071'296, 39'161'468'928},
    {"rwkv-4-169m", 169'342'464},
    {"rwkv-4-430m", 430'397'440},
    {"rwkv-4-1.5b", 1'515'106'304},
    {"rwkv-4-3b", 2'984'627'200},
    {"rwkv-4-7b", 7'392'649'216},
    {"rwkv-4-14b", 14'148'597'760},
    {"h3-125m", 126'387'456},
    {"h3-355m", 361'058'304},
    {"h3-1.3b", 1'326'096'384},
    {"h3-2.7b", 2'670'307'840},
    {"mamba-130m", 129'135'360},
    {"mamba-370m", 371'516'416},
    {"mamba-790m", 793'204'224},
    {"mamba-1.4b", 1'372'178'432},
    {"mamba-2.8b", 2'768'345'600},
    {"mamba2-130m", 128'989'632},
    {"mamba2-370m", 368'346'624},
    {"mamba2-780m", 780'161'280},
    {"mamba2-1.3b", 1'343'757'312},
    {"mamba2-2.7b", 2'702'599'680},
    {"jamba", 51'570'323'328, 12'110'311'296},
    {"jamba-1.5-large", 398'555'145'696, 94'149'338'592},
};

class PublishedPreset : public testing::TestWithParam<Published> {};

TEST_P(PublishedPreset, HasItsParameters) {
  const Published& published = GetParam();
  const auto model = build(published.preset);
  ASSERT_TRUE(model);
  EXPECT_EQ(model->parameters().count(), published.total);
  EXPECT_EQ(model->active_parameters(), published.active > 0 ? published.active : published.total);
  for (const ParameterPtr& parameter : model->parameters().list()) EXPECT_TRUE(parameter->value.is_meta());
}

INSTANTIATE_TEST_SUITE_P(All, PublishedPreset, testing::ValuesIn(kPublished), [](const auto& info) {
  std::string name = info.param.preset;
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
});

// A preset with a vocabulary of its own is a published model and belongs in the table above; the others are for racing.
TEST(Presets, EveryPublishedOneIsInTheTable) {
  std::map<std::string, int> rows;
  for (const Published& published : kPublished) ++rows[published.preset];
  for (const PresetEntry& preset : everything().presets()) {
    const auto model = build(preset.name);
    ASSERT_TRUE(model);
    EXPECT_EQ(rows[preset.name], model->config().vocabulary > 0 ? 1 : 0) << preset.name;
  }
}

// Wide enough to learn, small enough for a minute on two cores.
TEST(Presets, TheOthersAreOfRacingSize) {
  for (const PresetEntry& preset : everything().presets()) {
    const auto model = build(preset.name, "", 50);
    ASSERT_TRUE(model);
    if (model->config().vocabulary > 0) continue;
    EXPECT_GT(model->active_parameters(), 100'000) << preset.name;
    EXPECT_LT(model->active_parameters(), 1'000'000) << preset.name;
  }
}

}  // namespace
}  // namespace hippodrome::published_presets_test
