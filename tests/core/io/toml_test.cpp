#include "core/io/toml.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>

namespace hippodrome::toml_test {
namespace {

std::string error_of(std::string_view text) {
  return std::string(parse_toml(text, "recipe.toml").status().message());
}

ConfigValue parsed(std::string_view text) {
  absl::StatusOr<ConfigValue> value = parse_toml(text, "recipe.toml");
  EXPECT_TRUE(value.ok()) << value.status();
  return value.ok() ? *std::move(value) : ConfigValue();
}

// The recipe after `assignment`, or the error.
std::string overridden(std::string_view text, std::string_view assignment) {
  ConfigValue root = parsed(text);
  const std::string before = root.json();
  const absl::Status status = apply_override(root, assignment);
  if (!status.ok()) {
    EXPECT_EQ(root.json(), before);
    return std::string(status.message());
  }
  return root.json();
}

TEST(Toml, ReadsEveryKindInTheOrderWritten) {
  const ConfigValue root = parsed(R"(zeta = 1
alpha = 2.0
[models]
b = true
a = "text"
c.z = [1, [2.5, "x"]]
c.a = {q = -9223372036854775808, b = 0x10}
[[blocks]]
layer = 'mamba'
[[blocks]]
layer = "mlp"
[models.late]
)");
  EXPECT_EQ(root.json(),
            R"({"zeta": 1, "alpha": 2.0, "models": {"b": true, "a": "text", "c": {"z": [1, [2.5, "x"]], )"
            R"("a": {"q": -9223372036854775808, "b": 16}}, "late": {}}, "blocks": [{"layer": "mamba"}, {"layer": "mlp"}]})");
}

TEST(Toml, EveryValueKnowsItsLine) {
  const ConfigValue root = parsed(R"(a = 1
b = [
  2,
  { c = 3 },
]
[d.e]
f = """
two lines"""
[[g]]
[[g]]
h.i = 4
)");
  const auto line = [](const ConfigValue* value) { return value == nullptr ? "absent" : value->where().text(); };
  EXPECT_EQ(line(root.find("a")), "recipe.toml:1");
  EXPECT_EQ(line(root.find("b")), "recipe.toml:2");
  EXPECT_EQ(line(&(*root.find("b")->list())[0]), "recipe.toml:3");
  EXPECT_EQ(line((*root.find("b")->list())[1].find("c")), "recipe.toml:4");
  EXPECT_EQ(line(root.find("d")), "recipe.toml:6");
  EXPECT_EQ(line(root.find("d")->find("e")), "recipe.toml:6");
  EXPECT_EQ(line(root.find("d")->find("e")->find("f")), "recipe.toml:7");
  EXPECT_EQ(line(&(*root.find("g")->list())[1]), "recipe.toml:10");
  EXPECT_EQ(line((*root.find("g")->list())[1].find("h")), "recipe.toml:11");
}

TEST(Toml, SyntaxErrorNamesLineAndColumn) {
  EXPECT_EQ(error_of("a = 1\nb = = 2\n").rfind("recipe.toml:2:5: not valid TOML: error while parsing", 0), 0u)
      << error_of("a = 1\nb = = 2\n");
  for (const std::string text : {"a", "[a", "a = \"x", "a = 1\na = 2", "a = 1e", "= 1", "a = [1,", "a.b = 1\na = 2",
                                 "a = 1 b = 2", "\xff = 1", "a = \"\xc3\"", "a = 99999999999999999999"}) {
    const std::string error = error_of(text);
    EXPECT_EQ(error.rfind("recipe.toml:", 0), 0u) << text << ": " << error;
    EXPECT_EQ(error.find('\n'), std::string::npos) << error;
  }
}

TEST(Toml, DatesAreRefused) {
  for (const std::string text : {"b = 2026-01-02", "b=[ 10:20:30]", "b = [1,\t1979-05-27T07:32:00Z]", "b = {c = 2026-01-02T:03}"}) {
    const std::string error = error_of("a = 1\n" + text);
    EXPECT_EQ(error.rfind("recipe.toml:2:", 0), 0u) << error;
    EXPECT_NE(error.find(": dates and times have no use in a recipe; write it in quotes"), std::string::npos) << error;
  }
  EXPECT_EQ(error_of("2026-01-02 = 1e-5\n[1979-05-27]\na = [-1, 1E-2, '10:20', 0xe]\n[[10-20]]"), "");
}

TEST(Toml, InfinitiesArePassedOnForTheFieldToJudge) {
  const ConfigValue root = parsed("a = inf\nb = nan");
  EXPECT_TRUE(std::isinf(*root.find("a")->real()));
  EXPECT_TRUE(std::isnan(*root.find("b")->real()));
}

TEST(Toml, DeepNestingIsRefusedAndNotACrash) {
  const auto repeated = [](std::string_view part, size_t times) {
    std::string text;
    for (size_t i = 0; i < times; ++i) {
      text += part;
    }
    return text;
  };
  EXPECT_EQ(error_of(repeated("a.", 31) + "a = 1"), "");
  EXPECT_EQ(error_of("x = 1\n" + repeated("a.", 32) + "a = 1"),
            "recipe.toml:2:64: this is nested too deeply: at most 32 brackets inside each other and 32 parts of a dotted "
            "key are read");
  constexpr size_t kMany = 500000;
  const std::string dots = repeated("a.", kMany) + "a";
  for (const std::string& text :
       {dots + " = 1", "[" + dots + "]", "x = {" + dots + " = 1}", "x = " + repeated("[", kMany), "x = " + repeated("{a=", kMany),
        "x = [\"\"\"a\"\"\"\"\", {" + dots + " = 1}]", "x = ['''a'''', {" + dots + " = 1}]",
        "x = [\"\\\"\", {" + dots + " = 1}]", "\"#\"." + dots + " = 1", repeated("\"x\".", kMany) + "x = 1",
        "#\v" + dots + " = 1"}) {
    EXPECT_NE(error_of(text).find("nested too deeply"), std::string::npos) << text.substr(0, 40);
  }
  // Dots and brackets in strings, comments and numbers are none.
  EXPECT_EQ(error_of("a = \"" + dots + repeated("[", 99) + "\" # " + dots), "");
  EXPECT_EQ(error_of("a = '''" + dots + "\n" + dots + "'''"), "");
  EXPECT_EQ(error_of("a = [" + repeated("0.5, ", 1000) + "]"), "");
}

TEST(Toml, CharactersThatAreNotAsciiStandInQuotesAndComments) {
  EXPECT_EQ(parsed("\"clé\" = 'ﻙ' # ﻙ\na = \"\"\"é \\\n  e \\\" ﻙ\"\"\"").json(), R"({"clé": "ﻙ", "a": "é e \" ﻙ"})");
  EXPECT_EQ(error_of("a = 1\nclé = 1"), "recipe.toml:2:3: a character that is not ASCII must stand in quotes");
  EXPECT_EQ(error_of("a = 1 ﻙ"), "recipe.toml:1:7: a character that is not ASCII must stand in quotes");
  EXPECT_EQ(error_of("a = \"\"\"b \\\n ﻙ\"\"\""),
            "recipe.toml:1:11: what follows a backslash, or a line that ends in one, must begin with an ASCII character");
}

TEST(Toml, HeadersNeedNames) {
  for (const std::string header : {"[{a}]", "[[ {a", "[\n]", "[#", "[[.a]]", "[ [a]]", "[[[a]]]"}) {
    EXPECT_EQ(error_of("a = [\n[{}]]\n " + header), "recipe.toml:3:2: a table header must begin with a name");
  }
  for (const std::string header : {"[", "[ ", "[]", "[[", "[[]"}) {
    EXPECT_NE(error_of(header).find("not valid TOML"), std::string::npos) << header;
  }
  EXPECT_EQ(error_of("[ a.\"b\" ]\n[[ 'c' ]]\n"), "");
}

TEST(Toml, ValuesMustBeThere) {
  for (const std::string text : {"a = ]", "a = #", "a = \n", "a =[,", "a = ,", "a=[}", "a=[1,,", "a={b=}", "a={b=1,}"}) {
    EXPECT_EQ(error_of(text).rfind("recipe.toml:1:", 0), 0u) << text;
    EXPECT_NE(error_of(text).find(": a value is missing here"), std::string::npos) << text << error_of(text);
  }
  EXPECT_EQ(error_of("a = []\nb = {}\nc = [ # c\n1, # d\n]\n"), "");
}

TEST(Toml, FileErrorsNameTheFile) {
  const std::filesystem::path folder =
      std::filesystem::path(testing::TempDir()) / ("toml_test." + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  const std::string path = (folder / "recipe.toml").string();
  EXPECT_EQ(read_toml_file(path).status().message(), "cannot read " + path + ": No such file or directory");
  EXPECT_EQ(read_toml_file(folder).status().message(), "cannot read " + folder.string() + ": it is a folder");
  std::ofstream(path) << "\xEF\xBB\xBF" << "steps = 5\r\n";
  const absl::StatusOr<ConfigValue> root = read_toml_file(path);
  ASSERT_TRUE(root.ok()) << root.status();
  EXPECT_EQ(*root->find("steps")->integer(), 5);
  EXPECT_EQ(root->find("steps")->where().text(), path + ":1");
  std::filesystem::remove_all(folder);
}

constexpr std::string_view kRecipe = R"(
seed = 1
[training]
steps = 10
[[models]]
name = "lstm"
width = 32
[[models]]
name = "mamba"
)";

TEST(TomlOverride, ReplacesValuesOfEveryKind) {
  EXPECT_EQ(overridden("a = 1", "a=2"), R"({"a": 2})");
  EXPECT_EQ(overridden("a = 1", " a = 2.5 "), R"({"a": 2.5})");
  EXPECT_EQ(overridden("a = 1", "a=true"), R"({"a": true})");
  EXPECT_EQ(overridden("a = 1", "a=[1,2]"), R"({"a": [1, 2]})");
  EXPECT_EQ(overridden("a = 1", "a={b = 3}"), R"({"a": {"b": 3}})");
  EXPECT_EQ(overridden("a = 1", "a='2'"), R"({"a": "2"})");
  EXPECT_EQ(overridden("a = 1", "a=1e-3"), R"({"a": 0.001})");
}

TEST(TomlOverride, AnythingElseIsABareString) {
  EXPECT_EQ(overridden("", "a=mamba"), R"({"a": "mamba"})");
  EXPECT_EQ(overridden("", "a=../corpus/x.txt"), R"({"a": "../corpus/x.txt"})");
  EXPECT_EQ(overridden("", "a=k=v"), R"({"a": "k=v"})");
  EXPECT_EQ(overridden("", "a="), R"({"a": ""})");
  EXPECT_EQ(overridden("", "a=two words"), R"({"a": "two words"})");
  EXPECT_EQ(overridden("", "a=1\nb = 2"), R"({"a": "1\nb = 2"})");  // never a second key
}

TEST(TomlOverride, WalksTablesAndLists) {
  EXPECT_EQ(overridden(kRecipe, "training.steps=20"),
            R"({"seed": 1, "training": {"steps": 20}, "models": [{"name": "lstm", "width": 32}, {"name": "mamba"}]})");
  EXPECT_EQ(overridden(kRecipe, "models.0.width=64"),
            R"({"seed": 1, "training": {"steps": 10}, "models": [{"name": "lstm", "width": 64}, {"name": "mamba"}]})");
  EXPECT_EQ(overridden(kRecipe, "models.mamba.layer.width=64"),
            R"({"seed": 1, "training": {"steps": 10}, "models": [{"name": "lstm", "width": 32}, )"
            R"({"name": "mamba", "layer": {"width": 64}}]})");
  EXPECT_EQ(overridden("a = [1, 2]", "a.1=5"), R"({"a": [1, 5]})");
  EXPECT_EQ(overridden("", "a.\"b.c\".'d'=1"), R"({"a": {"b.c": {"d": 1}}})");
}

TEST(TomlOverride, ErrorsSayWhatToDo) {
  EXPECT_EQ(overridden(kRecipe, "seed"), "--set seed: write key=value, as in --set training.steps=100");
  EXPECT_EQ(overridden(kRecipe, "=3"), "--set =3: the key has an empty part; write it like training.steps");
  EXPECT_EQ(overridden(kRecipe, "a..b=3"), "--set a..b=3: the key has an empty part; write it like training.steps");
  EXPECT_EQ(overridden(kRecipe, "a b=3"), "--set a b=3: the parts of a key are joined by dots, as in training.steps");
  EXPECT_EQ(overridden(kRecipe, "seed.x=3"),
            "--set seed.x=3: \"seed\" is an integer (recipe.toml:2), so \"x\" cannot be set inside of it");
  EXPECT_EQ(overridden(kRecipe, "models.mamab.width=3"),
            "--set models.mamab.width=3: \"models\" has no entry \"mamab\"; did you mean \"mamba\"?");
  EXPECT_EQ(overridden("a = [1, 2]", "a.2=3"), "--set a.2=3: \"a\" has no entry \"2\"; its entries are 0 to 1");
  EXPECT_EQ(overridden("a = []", "a.0=3"), "--set a.0=3: \"a\" has no entry \"0\"; it is empty");
  EXPECT_EQ(overridden("", "a=2026-01-02"),
            "--set a=2026-01-02: dates and times have no use in a recipe; write it in quotes");
  EXPECT_EQ(overridden("", "a=[1, 2").rfind("--set a=[1, 2: not valid TOML: error while parsing array", 0), 0u)
      << overridden("", "a=[1, 2");
  EXPECT_EQ(overridden("", "a=\xff"), "--set: the assignment is not UTF-8 text");
}

struct Training {
  int64_t steps = 1;
  void bind(Fields& fields) { fields.integer("steps", steps, {1, 1000}, "optimiser steps"); }
};

TEST(TomlOverride, TheReaderComplainsAboutTheAssignment) {
  ConfigValue root = parsed(kRecipe);
  ASSERT_TRUE(apply_override(root, "training.step=5").ok());
  EXPECT_EQ(read_config<Training>(*root.find("training"), "training").status().message(),
            "--set training.step=5: unknown key \"step\" in [training]; did you mean \"steps\"?");
  root = parsed(kRecipe);
  ASSERT_TRUE(apply_override(root, "training.steps=0").ok());
  EXPECT_EQ(read_config<Training>(*root.find("training"), "training").status().message(),
            "--set training.steps=0: \"steps\" in [training] must be between 1 and 1000, not 0");
}

}  // namespace
}  // namespace hippodrome::toml_test
