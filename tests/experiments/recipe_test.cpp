#include "experiments/recipe.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "experiments/race/cells.h"
#include "tests/core/layer/toys.h"
#include "tests/test_folder.h"

namespace hippodrome::recipe_test {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

Registry registry_with_preset() {
  Registry registry = toys::toy_registry();
  registry.add(PresetEntry{"tiny", "a small model", "pattern = [\"gated\", \"mlp\"]\nrepeats = 1\nwidth = 16\n[blocks.gated]\nvalue_scale = 2.0\n"});
  return registry;
}

class RecipeTest : public testing_folder::FolderTest {
 protected:
  absl::StatusOr<Recipe> read(const std::string& toml, const std::vector<std::string>& overrides = {}) {
    std::ofstream(folder_ / "race.toml") << toml;
    return read_recipe(folder_ / "race.toml", overrides, registry_);
  }

  // What a race of the recipe would say before its first cell.
  std::string error_of(const std::string& toml) {
    const auto recipe = read(toml);
    if (!recipe.ok()) return std::string(recipe.status().message());
    return std::string(lay_out_cells(*recipe, folder_ / "run", true, recipe->has_scale, registry_).status().message());
  }

  const Registry registry_ = registry_with_preset();
};

const char kGood[] = R"(
seeds = [3, 5]
memory = "2GiB"
[training]
steps = 100
learning_rate = 0.5
[[models]]
preset = "tiny"
training = { learning_rate = 0.25 }
[[models]]
name = "wide"
preset = "tiny"
width = 32
[models.blocks.gated]
norm_position = "none"
[[tasks]]
task = "parity"
length = 12
training = { steps = 50, learning_rate = 0.125 }
[[tasks]]
name = "long-parity"
task = "parity"
length = 24
[scale]
lengths = [32, 64]
)";

TEST_F(RecipeTest, ReadsModelsTasksAndSeeds) {
  const auto recipe = read(kGood);
  ASSERT_TRUE(recipe.ok()) << recipe.status();
  EXPECT_EQ(recipe->name, "race") << "the file's name, unless the recipe has one";
  EXPECT_THAT(recipe->seeds, ElementsAre(3, 5));
  ASSERT_EQ(recipe->models.size(), 2u);
  EXPECT_EQ(recipe->models[0].name, "tiny");
  EXPECT_EQ(recipe->models[1].name, "wide");
  EXPECT_EQ(recipe->models[0].config.width, 16);
  EXPECT_EQ(recipe->models[1].config.width, 32) << "keys override the preset's";
  const ConfigValue* gated = recipe->models[1].config.blocks.find("gated");
  EXPECT_EQ(*gated->find("value_scale")->real(), 2.0) << "tables are laid over the preset's key by key";
  EXPECT_EQ(*gated->find("norm_position")->string(), "none");
  ASSERT_EQ(recipe->tasks.size(), 2u);
  EXPECT_EQ(recipe->tasks[0].name, "parity");
  EXPECT_EQ(recipe->tasks[1].name, "long-parity");
  EXPECT_EQ(recipe->tasks[1].task, "parity");
  EXPECT_TRUE(recipe->has_scale);
  EXPECT_THAT(recipe->scale.lengths, ElementsAre(32, 64));
}

TEST_F(RecipeTest, TrainingKeysOverrideFromRecipeToTaskToModel) {
  const auto recipe = read(kGood);
  ASSERT_TRUE(recipe.ok()) << recipe.status();
  const auto training = [&](int model, int task) { return *training_for(*recipe, recipe->models[model], recipe->tasks[task]); };
  EXPECT_EQ(training(0, 0).steps, 50);
  EXPECT_EQ(training(0, 1).steps, 100);
  EXPECT_EQ(training(0, 0).learning_rate, 0.25);
  EXPECT_EQ(training(1, 0).learning_rate, 0.125);
  EXPECT_EQ(training(1, 1).learning_rate, 0.5);
}

TEST_F(RecipeTest, TakesOverrides) {
  const auto recipe = read(kGood, {"training.steps=7", "models.1.width=64", "seeds=[9]", "name=\"other\""});
  ASSERT_TRUE(recipe.ok()) << recipe.status();
  EXPECT_EQ(recipe->name, "other");
  EXPECT_EQ(recipe->models[1].config.width, 64);
  EXPECT_THAT(recipe->seeds, ElementsAre(9));
  EXPECT_EQ(training_for(*recipe, recipe->models[1], recipe->tasks[1])->steps, 7);
  EXPECT_THAT(std::string(read(kGood, {"training.stepps=7"}).status().message()), HasSubstr("--set training.stepps=7: unknown key \"stepps\" in [training]; did you mean \"steps\"?"));
}

TEST_F(RecipeTest, ReadsBackWhatItKeeps) {
  const auto recipe = read(kGood);
  ASSERT_TRUE(recipe.ok());
  const auto again = recipe_from(recipe->source, {}, registry_);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->source.json(), recipe->source.json());
  EXPECT_EQ(again->models[1].config.width, 32);
}

TEST_F(RecipeTest, LaysOutEveryCell) {
  const auto recipe = read(kGood);
  ASSERT_TRUE(recipe.ok());
  const auto cells = lay_out_cells(*recipe, folder_ / "run", true, true, registry_);
  ASSERT_TRUE(cells.ok()) << cells.status();
  EXPECT_EQ(cells->size(), 2u * 2 * 2 + 2 * 2);
  EXPECT_EQ((*cells)[0].label, "tiny · parity · seed 3");
  EXPECT_EQ((*cells)[0].command, "trial");
  EXPECT_EQ((*cells)[0].folder, folder_ / "run/trials/parity-tiny-3");
  EXPECT_EQ(cells->back().command, "point");
  EXPECT_EQ(cells->back().folder, folder_ / "run/scale/wide-64");
  EXPECT_TRUE(absl::IsNotFound(cell_rows((*cells)[0]).status()));
  const auto spec = read_trial_spec((*cells)[0].folder);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->seed, 3);
  EXPECT_EQ(spec->training.steps, 50);
  EXPECT_EQ(spec->model.width, 16);
  EXPECT_EQ(*spec->model.blocks.find("gated")->find("value_scale")->real(), 2.0);
  const auto point = read_point_spec(cells->back().folder);
  ASSERT_TRUE(point.ok()) << point.status();
  EXPECT_EQ(point->length, 64);
  EXPECT_EQ(point->tokens_per_step, 64) << "of the longest length";
  EXPECT_EQ(point->model.width, 32);
}

TEST_F(RecipeTest, MatchesModelsInSize) {
  const auto recipe = read("[match]\nparameters = 2e5\n[[models]]\npreset = \"tiny\"\n[[models]]\nname = \"deep\"\npreset = \"tiny\"\nrepeats = 4\n[[tasks]]\ntask = \"parity\"");
  ASSERT_TRUE(recipe.ok()) << recipe.status();
  const auto cells = lay_out_cells(*recipe, folder_ / "run", true, false, registry_);
  ASSERT_TRUE(cells.ok()) << cells.status();
  std::vector<int64_t> widths;
  for (const Cell& cell : *cells) {
    const TrialSpec spec = *read_trial_spec(cell.folder);
    widths.push_back(spec.model.width);
    auto model = LanguageModel::make(spec.model, 2, "m", registry_);
    EXPECT_NEAR(static_cast<double>((*model)->parameters().count()), 2e5, 4e3);
  }
  EXPECT_GT(widths[0], widths[1]);
}

struct Wrong {
  std::string toml, sentence;
};

TEST_F(RecipeTest, WrongRecipesAreSentences) {
  const std::string model = "[[models]]\npreset = \"tiny\"\n", task = "[[tasks]]\ntask = \"parity\"\n";
  const std::vector<Wrong> table = {
      {"sceds = [1]\n" + model, "race.toml:1: unknown key \"sceds\" in [recipe]; did you mean \"seeds\"?"},
      {"seeds = 1\n" + model, "race.toml:1: \"seeds\" in [recipe]"},
      {"seeds = []\n" + model, "seeds is empty: give one value at least, or leave the key out"},
      {"seeds = [1, 2, 1]\n" + model, "seeds holds a value twice"},
      {"seeds = [-1]\n" + model, "race.toml:1: "},
      {"threads = \"all\"\n" + model, "race.toml:1: \"threads\" in [recipe]"},
      {"memory = \"8 Gigs\"\n" + model, "\"8 Gigs\" is not an amount of memory: write it like 8GiB or 500MB"},
      {"matmul = \"blas\"\n" + model, "race.toml:1: \"matmul\" in [recipe]"},
      {"name = \"x\"\n", "the recipe has no models: add [[models]] with preset = \"mamba\", for example"},
      {"models = 3\n", "race.toml:1: "},
      {"[models]\npreset = \"tiny\"\n", "race.toml:1: write [[models]], one table per entry"},
      {"[[models]]\nwidth = 3\n", "race.toml:1: a [[models]] entry needs a name or a preset"},
      {"[[models]]\npreset = \"tinny\"\n", "race.toml:2: no preset is called \"tinny\"; did you mean \"tiny\"?"},
      {"[[models]]\npreset = 3\n", "race.toml:2: \"preset\" must be a string"},
      {"[[models]]\npreset = \"tiny\"\nwdith = 3\n", "race.toml:3: unknown key \"wdith\" in [models.tiny]; did you mean \"width\"?"},
      {"[[models]]\npreset = \"tiny\"\nwidth = -3\n", "race.toml:3: \"width\" in [models.tiny]"},
      {"[[models]]\nname = \"a b\"\npreset = \"tiny\"\n", "\"a b\" cannot name one of the models: it becomes part of a folder's name"},
      {model + model, "two models are called \"tiny\": give one another name"},
      {model + task + task, "two tasks are called \"parity\": give one another name"},
      {model + "[[tasks]]\nlength = 3\n", "race.toml:3: a [[tasks]] entry needs a task, e.g. task = \"text\""},
      {model + "[[tasks]]\ntask = 7\n", "race.toml:4: \"task\" must be a string"},
      {model + "[[tasks]]\ntask = \"parrity\"\n", "\"parrity\"; did you mean \"parity\"?"},
      {model + "[[tasks]]\ntask = \"parity\"\nlenght = 3\n", "race.toml:5: unknown key \"lenght\" in [tasks.parity]; did you mean \"length\"?"},
      {model + "[[tasks]]\ntask = \"parity\"\nlength = \"long\"\n", "race.toml:5: \"length\" in [tasks.parity]"},
      {model + "[[tasks]]\ntask = \"parity\"\n[tasks.training]\nstep = 3\n", "race.toml:6: unknown key \"step\" in [training]; did you mean \"steps\"?"},
      {"[training]\nstepps = 3\n" + model + task, "race.toml:2: unknown key \"stepps\" in [training]; did you mean \"steps\"?"},
      {"[training]\ndtype = \"int8\"\n" + model + task, "race.toml:2: \"dtype\" in [training]"},
      {"[scale]\nphases = [\"train\", \"prefil\"]\n" + model, "unknown phase \"prefil\" in [scale]; did you mean \"prefill\"?"},
      {"[scale]\nlengths = []\n" + model, "lengths in [scale] is empty"},
      {"[scale]\nlengths = [32, 32]\n" + model, "lengths in [scale] holds a value twice"},
      {"[scale]\nphases = []\n" + model, "phases in [scale] is empty"},
      {"[match]\nparameters = \"1M\"\n" + model, "race.toml:2: \"parameters\" in [match]"},
      {"[match]\nparameters = 10\n" + model + task, "no width gives 10 parameters to within 2 %"},
      {"[[models]]\nname = \"m\"\npattern = [\"gate\"]\n" + task, "[models.m.blocks.gate]: no layer is called \"gate\"; did you mean \"gated\"?"},
      {"[[models]]\nname = \"m\"\n" + task, "[models.m] has no blocks"},
      {model + "[models.blocks.gated]\nkernle = \"fast\"\n" + task, "race.toml:4: unknown key \"kernle\" in [models.tiny.blocks.gated]; did you mean \"kernel\"?"},
      {model + "[models.blocks.gated]\nkernel = \"faster\"\n" + task, "race.toml:4: \"kernel\" in [models.tiny.blocks.gated]"},
      {model + "[[tasks\n", "race.toml:3:8: not valid TOML"},
  };
  for (const Wrong& wrong : table) {
    const std::string error = error_of(wrong.toml);
    EXPECT_THAT(error, HasSubstr(wrong.sentence)) << wrong.toml;
    EXPECT_EQ(error.find('\n'), std::string::npos) << "one sentence: " << error;
  }
}

TEST_F(RecipeTest, SaysWhichFileCannotBeRead) {
  const auto recipe = read_recipe(folder_ / "nowhere.toml", {}, registry_);
  EXPECT_THAT(std::string(recipe.status().message()), HasSubstr((folder_ / "nowhere.toml").string()));
  EXPECT_FALSE(read_recipe(folder_, {}, registry_).ok()) << "a folder is no recipe";
}

TEST(ParseBytes, ReadsUnits) {
  const std::vector<std::pair<std::string, int64_t>> table = {
      {"0", 0},          {"1000", 1000},          {"12B", 12},          {"1KiB", 1024},      {"2MiB", 2 << 20},  {"8GiB", int64_t{8} << 30},
      {"500 MB", 500000000}, {"1.5GiB", 3 * (int64_t{1} << 29)}, {"1e9", 1000000000}, {"3KB", 3000}, {"3kB", 3000}, {"2 GB", 2000000000}, {"1TiB", int64_t{1} << 40}};
  for (const auto& [text, bytes] : table) {
    const auto parsed = parse_bytes(text);
    ASSERT_TRUE(parsed.ok()) << text << ": " << parsed.status();
    EXPECT_EQ(*parsed, bytes) << text;
  }
  for (const char* wrong : {"", "GiB", "8Gib", "8 gigs", "-1GiB", "1e30", "nan", "inf", "8GiB please"}) {
    EXPECT_EQ(parse_bytes(wrong).status().message(), "\"" + std::string(wrong) + "\" is not an amount of memory: write it like 8GiB or 500MB");
  }
}

}  // namespace
}  // namespace hippodrome::recipe_test
