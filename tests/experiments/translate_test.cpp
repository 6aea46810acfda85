#include <gmock/gmock.h>

#include <map>
#include <sstream>

#include "tests/experiments/run_program.h"

// Tasks of pairs by the commands that a user would give: trained, raced, translated, drawn.
namespace hippodrome::translate_test {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;
using testing_program::ProgramTest;
using testing_program::rows_of;
using testing_program::text_of;

class Translate : public ProgramTest {
 protected:
  // Trials of three steps of these models.
  void race(const std::vector<std::string>& names) {
    const std::map<std::string, std::string> models = {
        {"attending", "preset = \"rnnsearch-tiny\"\n"},
        {"blind", "preset = \"sutskever-tiny\"\ndropout = 0.1\n"},
        {"one-row", "preset = \"transformer\"\nrepeats = 1\n"},
        // README's mixture.
        {"mixture",
         "pattern = [\"mamba\", \"cross_attention\"]\nencoder = { pattern = [\"gru\"], repeats = 1, norm_position = "
         "\"none\", "
         "residual = false, blocks = { gru = { direction = \"both\" } } }\n"}};
    std::string recipe =
        "threads = 1\nmatmul = \"mkl\"\n[training]\nsteps = 3\nbatch = 4\nevaluate_every = 3\nevaluate_batches = 1\n"
        "test_batches = 1\nsearch_pairs = 6\nlabel_smoothing = 0.1\nschedule = \"inverse_sqrt\"\n"
        "[[tasks]]\ntask = \"reverse\"\nlength = 5\ntest_lengths = [3, 8]\n";
    for (const std::string& name : names)
      recipe += "[[models]]\nname = \"" + name + "\"\nwidth = 16\n" + models.at(name);
    write("race.toml", recipe);
    ASSERT_EQ(run({"race", "race.toml", "--out", "run"}), 0) << err();
  }

  static std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    return lines;
  }

  std::string translated(const std::string& input, std::vector<std::string> arguments) {
    write("in.txt", input);
    arguments.insert(arguments.begin(), "translate");
    EXPECT_EQ(run(arguments), 0) << err();
    return out();
  }
};

TEST_F(Translate, RowsSayWhatModelsSayByThemselves) {
  race({"attending", "blind", "one-row", "mixture"});
  const auto rows = rows_of(folder_ / "run/rows.jsonl", "trial");
  ASSERT_EQ(rows.size(), 4U);
  for (const json& row : rows) {
    ASSERT_EQ(row["status"], "ok") << row["message"];
    ASSERT_EQ(row["by_length"].size(), 3U);
    for (const json& point : row["by_length"]) {
      EXPECT_EQ(point["pairs"], 6);
      for (const char* metric : {"exact_match", "bleu", "chrf"}) {
        EXPECT_GE(point[metric].get<double>(), 0.0);
        EXPECT_LE(point[metric].get<double>(), 100.0);
      }
    }
    EXPECT_GT(row["state_bytes"].get<int64_t>(), 0);
    const bool attends = row["model"] == "attending" || row["model"] == "mixture";
    EXPECT_EQ(row.contains("attention") && !row["attention"].empty(), attends) << row["model"];
  }
}

TEST_F(Translate, ReadsLinesAndPrintsOneOrMoreTargetsEach) {
  race({"attending", "one-row"});
  for (const std::string model : {"attending", "one-row"}) {
    const std::string trial = "run/trials/reverse-" + model + "-1";
    const std::string greedy = translated("a b c\nd\n", {"--checkpoint", trial, "--max-length", "7"});
    EXPECT_EQ(lines_of(greedy).size(), 2U);
    EXPECT_EQ(translated("a b c\nd\n", {trial, "--max-length", "7", "--batch", "1"}), greedy)
        << "batches must not show";
    const auto best =
        lines_of(translated("a b c\nd\n", {"--model", trial, "--beam", "4", "--n-best", "3", "--max-length", "7"}));
    ASSERT_EQ(best.size(), 6U);
    EXPECT_THAT(best[0], testing::StartsWith("1\t-"));
    EXPECT_THAT(best[5], testing::StartsWith("2\t-"));
  }
}

TEST_F(Translate, DrawsWhereItLooked) {
  race({"attending"});
  translated("a b c\n",
             {"--checkpoint", "run/trials/reverse-attending-1", "--attention", "map.html", "--max-length", "4"});
  const std::string page = text_of(folder_ / "map.html");
  EXPECT_THAT(page, HasSubstr("<rect"));
  EXPECT_THAT(page, HasSubstr("&lt;/s&gt;"));
  EXPECT_THAT(page, Not(HasSubstr("</s>")));
}

TEST_F(Translate, MistakesAreOneSentence) {
  race({"attending", "blind"});
  const std::string trial = "run/trials/reverse-attending-1";
  const auto complaint = [&](const std::string& input, std::vector<std::string> arguments) {
    write("in.txt", input);
    EXPECT_NE(run(arguments), 0);
    return err();
  };
  EXPECT_THAT(complaint("a b\nzz\n", {"translate", trial}), HasSubstr("standard input, line 2: "));
  EXPECT_THAT(complaint("", {"translate", trial}), HasSubstr("standard input is empty"));
  EXPECT_THAT(complaint("a\n", {"translate", trial, "--n-best", "2"}), HasSubstr("n-best is 2"));
  EXPECT_THAT(complaint("a\n", {"translate", "run/trials/reverse-blind-1", "--attention", "x.html"}),
              HasSubstr("attends to no source"));
  EXPECT_THAT(complaint("a\n", {"generate", trial, "--prompt-ids", "1"}), HasSubstr("use hippodrome translate"));
  write("wrong.toml", "[[tasks]]\ntask = \"parity\"\n[[models]]\nname = \"m\"\npreset = \"rnnsearch-tiny\"\n");
  EXPECT_THAT(complaint("", {"race", "wrong.toml", "--out", "other"}),
              HasSubstr("has an encoder, which reads the source of pairs"));
}

}  // namespace
}  // namespace hippodrome::translate_test
