#include "core/base/config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace hippodrome::config_test {
namespace {

ConfigValue at_line(auto data, int line) { return ConfigValue(std::move(data), {"recipe.toml", line}); }

struct Rates {
  bool bias = true;
  int64_t heads = 4;
  double dropout = 0.0;
  double scale = 1.0;
  std::string name = "none";
  std::string norm = "pre";
  std::vector<int64_t> lengths = {256};
  std::vector<std::string> tasks;
  ConfigValue layer;

  void bind(Fields& fields) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    fields.flag("bias", bias, "add a bias");
    fields.integer("heads", heads, {1, 1024}, "query heads");
    fields.number("dropout", dropout, {0.0, 1.0}, "share of values dropped");
    fields.number("scale", scale, {-kInfinity, kInfinity}, "a factor");
    fields.text("name", name, "a name");
    fields.choice("norm", norm, {"pre", "post", "none"}, "where the norm stands");
    fields.integers("lengths", lengths, {1, std::numeric_limits<int64_t>::max()}, "tokens");
    fields.texts("tasks", tasks, "task names");
    fields.tree("layer", layer, "the layer's own table");
  }
};

std::string error_of(const ConfigValue& table) {
  return std::string(read_config<Rates>(table, "models.attention").status().message());
}

std::string error_with(std::string_view key, auto data) {
  ConfigValue table;
  table.set(key, at_line(std::move(data), 9));
  return error_of(table);
}

TEST(Config, ReadsEveryKindOfField) {
  ConfigValue table, layer;
  layer.set("width", ConfigValue(8));
  table.set("bias", ConfigValue(false));
  table.set("heads", ConfigValue(1024));
  table.set("dropout", ConfigValue(1));  // an integer literal serves as a number
  table.set("scale", ConfigValue(-2.5));
  table.set("name", ConfigValue("wide"));
  table.set("norm", ConfigValue("post"));
  table.set("lengths", ConfigValue(ConfigValue::List{ConfigValue(16), ConfigValue(32)}));
  table.set("tasks", ConfigValue(ConfigValue::List{ConfigValue("parity")}));
  table.set("layer", layer);
  const absl::StatusOr<Rates> rates = read_config<Rates>(table, "models");
  ASSERT_TRUE(rates.ok()) << rates.status();
  EXPECT_FALSE(rates->bias);
  EXPECT_EQ(rates->heads, 1024);
  EXPECT_EQ(rates->dropout, 1.0);
  EXPECT_EQ(rates->scale, -2.5);
  EXPECT_EQ(rates->name, "wide");
  EXPECT_EQ(rates->norm, "post");
  EXPECT_EQ(rates->lengths, (std::vector<int64_t>{16, 32}));
  EXPECT_EQ(rates->tasks, (std::vector<std::string>{"parity"}));
  EXPECT_EQ(rates->layer.json(), R"({"width": 8})");
}

TEST(Config, KeepsDefaultsOfAbsentKeys) {
  const absl::StatusOr<Rates> rates = read_config<Rates>(ConfigValue(), "models");
  ASSERT_TRUE(rates.ok());
  EXPECT_EQ(rates->heads, 4);
  EXPECT_EQ(rates->lengths, (std::vector<int64_t>{256}));
}

TEST(Config, UnknownKeyNamesLineTableAndNearestKey) {
  EXPECT_EQ(error_with("head", 4),
            R"(recipe.toml:9: unknown key "head" in [models.attention]; did you mean "heads"?)");
}

TEST(Config, UnknownKeyThatStandsFirstIsReported) {
  ConfigValue table;
  table.set("heads", at_line(2, 1));
  table.set("zeta_unlike_any", at_line(1, 2));
  table.set("alpha_unlike_any", at_line(1, 3));
  EXPECT_EQ(error_of(table), R"(recipe.toml:2: unknown key "zeta_unlike_any" in [models.attention])");
}

TEST(Config, WrongTypeSaysWhatStandsThere) {
  EXPECT_EQ(error_with("heads", "four"),
            R"(recipe.toml:9: "heads" in [models.attention] must be an integer, not the string "four")");
  EXPECT_EQ(error_with("heads", 4.5),
            R"(recipe.toml:9: "heads" in [models.attention] must be an integer, not the number 4.5)");
  EXPECT_EQ(error_with("bias", 1),
            R"(recipe.toml:9: "bias" in [models.attention] must be true or false, not the integer 1)");
  EXPECT_EQ(error_with("name", true),
            R"(recipe.toml:9: "name" in [models.attention] must be a string, not the boolean true)");
  EXPECT_EQ(error_with("dropout", ConfigValue::List{}),
            R"(recipe.toml:9: "dropout" in [models.attention] must be a number, not a list)");
  EXPECT_EQ(error_with("lengths", ConfigValue::Table{}),
            R"(recipe.toml:9: "lengths" in [models.attention] must be a list of integers, not a table)");
}

TEST(Config, RangeNamesItsEnds) {
  EXPECT_EQ(error_with("heads", 0),
            R"(recipe.toml:9: "heads" in [models.attention] must be between 1 and 1024, not 0)");
  EXPECT_EQ(error_with("heads", 1025),
            R"(recipe.toml:9: "heads" in [models.attention] must be between 1 and 1024, not 1025)");
  EXPECT_EQ(error_with("dropout", 1.5),
            R"(recipe.toml:9: "dropout" in [models.attention] must be between 0 and 1, not 1.5)");
  EXPECT_EQ(error_with("lengths", ConfigValue::List{at_line(4, 10), at_line(0, 11)}),
            R"(recipe.toml:11: item 2 of "lengths" in [models.attention] must be at least 1, not 0)");
  EXPECT_EQ(error_with("tasks", ConfigValue::List{at_line(4, 10)}),
            R"(recipe.toml:10: item 1 of "tasks" in [models.attention] must be a string, not the integer 4)");
}

TEST(Config, NotANumberIsOutsideOfEveryRangeAndInfinityOnlyOfFiniteOnes) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(error_with("dropout", nan),
            R"(recipe.toml:9: "dropout" in [models.attention] must be between 0 and 1, not nan)");
  EXPECT_EQ(error_with("scale", nan), R"(recipe.toml:9: "scale" in [models.attention] must be a number, not nan)");
  EXPECT_EQ(error_with("dropout", infinity),
            R"(recipe.toml:9: "dropout" in [models.attention] must be between 0 and 1, not inf)");
  EXPECT_EQ(error_with("scale", -infinity), "");
}

TEST(Config, ChoiceListsItsOptions) {
  EXPECT_EQ(error_with("norm", "pst"), R"(recipe.toml:9: "norm" in [models.attention] must be one of "pre", "post", )"
                                       R"("none", not the string "pst"; did you mean "post"?)");
  EXPECT_EQ(error_with("norm", 3), R"(recipe.toml:9: "norm" in [models.attention] must be one of "pre", "post", )"
                                   R"("none", not the integer 3)");
}

TEST(Config, TheFirstErrorWins) {
  ConfigValue table;
  table.set("unheard_of", at_line(1, 1));
  table.set("dropout", at_line(9, 2));
  table.set("heads", at_line(0, 3));
  EXPECT_EQ(error_of(table), R"(recipe.toml:3: "heads" in [models.attention] must be between 1 and 1024, not 0)");
}

TEST(Config, OverridesAreNamedAsSuchAndTheTopLevelToo) {
  ConfigValue table;
  table.set("heads", ConfigValue("x", {"--set heads=x", 0}));
  EXPECT_EQ(read_config<Rates>(table, "").status().message(),
            R"(--set heads=x: "heads" at the top level must be an integer, not the string "x")");
}

TEST(Config, NonTableIsRefused) {
  EXPECT_EQ(error_of(at_line(3, 5)), "recipe.toml:5: [models.attention] must be a table, not the integer 3");
}

TEST(Config, LongStringsAreNotRepeatedInMessages) {
  EXPECT_EQ(error_with("heads", std::string(5000, 'x')),
            R"(recipe.toml:9: "heads" in [models.attention] must be an integer, not a string of 5000 bytes)");
}

TEST(Config, WrittenConfigReadsBackTheSame) {
  Rates rates;
  rates.heads = 7;
  rates.dropout = 0.1;
  rates.tasks = {"a", "b \"quoted\"\n"};
  const ConfigValue written = write_config(rates);
  EXPECT_EQ(written.json(),
            R"({"bias": true, "heads": 7, "dropout": 0.1, "scale": 1.0, "name": "none", "norm": "pre", )"
            R"("lengths": [256], "tasks": ["a", "b \"quoted\"\n"], "layer": {}})");
  const absl::StatusOr<Rates> again = read_config<Rates>(written, "");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(write_config(*again).json(), written.json());
}

TEST(Config, DescriptionHasOneLineAField) {
  Rates rates;
  DescribeFields fields;
  rates.bind(fields);
  ASSERT_EQ(fields.result.size(), 9u);
  EXPECT_EQ(fields.result[1].key, "heads");
  EXPECT_EQ(fields.result[1].type, "integer in [1, 1024]");
  EXPECT_EQ(fields.result[1].default_value, "4");
  EXPECT_EQ(fields.result[1].doc, "query heads");
  EXPECT_EQ(fields.result[3].type, "number");
  EXPECT_EQ(fields.result[5].type, "pre | post | none");
  EXPECT_EQ(fields.result[6].type, "list of integers ≥ 1");
}

TEST(Config, MergeGoesTableByTable) {
  ConfigValue base, over, inner, change;
  inner.set("a", ConfigValue(1));
  inner.set("b", ConfigValue(2));
  base.set("model", inner);
  base.set("seed", ConfigValue(3));
  change.set("b", ConfigValue("two"));
  change.set("c", ConfigValue(ConfigValue::List{ConfigValue(4)}));
  over.set("model", change);
  over.set("seed", ConfigValue(ConfigValue::Table{}));
  base.merge(over);
  EXPECT_EQ(base.json(), R"({"model": {"a": 1, "b": "two", "c": [4]}, "seed": {}})");
}

TEST(Config, EntriesCanBeReplacedAndErased) {
  ConfigValue value(5);
  value.set("a", ConfigValue(1)).set("nested", ConfigValue(true));
  value.set("b", ConfigValue(2));
  value.set("b", ConfigValue(std::nan("")));
  EXPECT_EQ(value.json(), R"({"a": {"nested": true}, "b": "nan"})");
  EXPECT_TRUE(value.erase("a"));
  EXPECT_FALSE(value.erase("a"));
  EXPECT_EQ(value.find("a"), nullptr);
}

}  // namespace
}  // namespace hippodrome::config_test
