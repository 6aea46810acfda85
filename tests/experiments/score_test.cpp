#include <gmock/gmock.h>

#include <sstream>

#include "tests/experiments/run_program.h"

namespace hippodrome::score_test {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class Score : public testing_program::ProgramTest {};

TEST_F(Score, ReadsLinesWhateverEndsThem) {
  write("h.txt", "The cat sat on the mat.\r\nIt's 1,000.5 km\r\n");
  write("r.txt", "The cat sat on the mat.\nIt is 1,000.5 km away");
  ASSERT_EQ(run({"score", "--hypotheses", "h.txt", "--references", "r.txt", "--json"}), 0) << err();
  const json scores = json::parse(out());
  // As sacreBLEU 2.6.0 has it.
  EXPECT_NEAR(scores["bleu"].get<double>(), 73.6899789939395, 1e-9);
  EXPECT_NEAR(scores["chrf"].get<double>(), 79.96558849881819, 1e-9);
  EXPECT_NEAR(scores["chrf++"].get<double>(), 78.79508858917937, 1e-9);
  EXPECT_EQ(scores["exact_match"], 50.0);
  EXPECT_EQ(scores["sentences"], 2);

  ASSERT_EQ(run({"score", "--hypotheses", "h.txt", "--references", "r.txt"}), 0) << err();
  EXPECT_THAT(
      out(),
      HasSubstr("BLEU          73.69   precisions 90.0/87.5/83.3/100.0, brevity penalty 0.819, 10 words for 12"));
  EXPECT_THAT(out(), HasSubstr("exact match   50.00 % of 2 lines"));

  ASSERT_EQ(run({"score", "--hypotheses", "h.txt", "--references", "r.txt", "--sentence-level", "--tokenizer", "none"}),
            0)
      << err();
  std::istringstream lines(out());
  std::string first, second, third;
  std::getline(lines, first);
  std::getline(lines, second);
  EXPECT_NEAR(json::parse(first)["bleu"].get<double>(), 100.0, 1e-9);
  EXPECT_EQ(json::parse(second)["hypothesis_words"], 3);
  EXPECT_FALSE(std::getline(lines, third));
}

TEST_F(Score, NamesFilesThatDoNotMatch) {
  write("h.txt", "a\nb\nc\n");
  write("r.txt", "a\nb\n");
  write("empty.txt", "");
  EXPECT_EQ(run({"score", "--hypotheses", "h.txt", "--references", "r.txt"}), 2);
  EXPECT_EQ(
      err(),
      "hippodrome: h.txt has 3 lines and r.txt has 2: a hypothesis and its reference must stand on the same line\n");
  EXPECT_EQ(run({"score", "--hypotheses", "empty.txt", "--references", "empty.txt"}), 2);
  EXPECT_THAT(err(), HasSubstr("hold no lines"));
  EXPECT_EQ(run({"score", "--hypotheses", "h.txt", "--references", "missing.txt"}), 2);
  EXPECT_THAT(err(), HasSubstr("missing.txt"));
}

}  // namespace
}  // namespace hippodrome::score_test
