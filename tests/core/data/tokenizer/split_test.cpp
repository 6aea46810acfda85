#include "core/data/tokenizer/split.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/base/random.h"

namespace hippodrome::split_test {
namespace {

using Pieces = std::vector<std::string>;

Pieces split(SplitRule rule, std::string_view text) {
  Pieces pieces;
  while (!text.empty()) {
    const std::string_view piece = first_piece(rule, text);
    pieces.emplace_back(piece);
    if (piece.empty()) break;
    text.remove_prefix(piece.size());
  }
  return pieces;
}
Pieces gpt2(std::string_view text) { return split(SplitRule::kGpt2, text); }
Pieces llama3(std::string_view text) { return split(SplitRule::kLlama3, text); }

TEST(Split, Gpt2SeparatesWordsNumbersAndSigns) {
  EXPECT_EQ(gpt2("Hello world, it's 2026!?"), (Pieces{"Hello", " world", ",", " it", "'s", " 2026", "!?"}));
  EXPECT_EQ(gpt2("a1b_c"), (Pieces{"a", "1", "b", "_", "c"}));
  EXPECT_EQ(gpt2("中文 字"), (Pieces{"中文", " 字"}));
  EXPECT_EQ(gpt2("🙂🙂 x"), (Pieces{"🙂🙂", " x"}));
  EXPECT_EQ(gpt2("½Ⅷ²"), (Pieces{"½Ⅷ²"}));
  // A combining accent is no letter: it begins a piece.
  EXPECT_EQ(gpt2("e\xCC\x81t"), (Pieces{"e", "\xCC\x81", "t"}));
}

TEST(Split, Gpt2GivesTheLastSpaceOfARunToTheWord) {
  EXPECT_EQ(gpt2("a   b"), (Pieces{"a", "  ", " b"}));
  EXPECT_EQ(gpt2("a  "), (Pieces{"a", "  "}));
  EXPECT_EQ(gpt2(" "), (Pieces{" "}));
  EXPECT_EQ(gpt2("\n\nb"), (Pieces{"\n", "\n", "b"}));
  EXPECT_EQ(gpt2("\t b"), (Pieces{"\t", " b"}));
  EXPECT_EQ(gpt2(" \tb"), (Pieces{" ", "\t", "b"}));
  EXPECT_EQ(gpt2("a\xE3\x80\x80" "b"), (Pieces{"a", "\xE3\x80\x80", "b"}));
}

TEST(Split, Gpt2KnowsContractionsInLowerCaseAlone) {
  EXPECT_EQ(gpt2("'s't're've'm'll'd"), (Pieces{"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}));
  EXPECT_EQ(gpt2("I'S"), (Pieces{"I", "'", "S"}));
  EXPECT_EQ(gpt2("'start"), (Pieces{"'s", "tart"}));
  EXPECT_EQ(gpt2(" 's"), (Pieces{" '", "s"}));
  EXPECT_EQ(gpt2("'l"), (Pieces{"'", "l"}));
  EXPECT_EQ(gpt2("''s"), (Pieces{"''", "s"}));
}

TEST(Split, Llama3TakesNumbersByThreesAndLetsAnythingLead) {
  EXPECT_EQ(llama3("12345678"), (Pieces{"123", "456", "78"}));
  EXPECT_EQ(llama3(" 123"), (Pieces{" ", "123"}));
  EXPECT_EQ(llama3("(word) _x .."), (Pieces{"(word", ")", " _", "x", " .."}));
  EXPECT_EQ(llama3("\tword"), (Pieces{"\tword"}));
  EXPECT_EQ(llama3("\nword"), (Pieces{"\n", "word"}));
  EXPECT_EQ(llama3("e\xCC\x81t"), (Pieces{"e", "\xCC\x81t"}));
}

TEST(Split, Llama3KeepsNewlinesWithWhatStandsBeforeThem) {
  EXPECT_EQ(llama3("x;\r\n\ny"), (Pieces{"x", ";\r\n\n", "y"}));
  EXPECT_EQ(llama3("  \n \n  y"), (Pieces{"  \n \n", " ", " y"}));
  EXPECT_EQ(llama3("a   b"), (Pieces{"a", "  ", " b"}));
  EXPECT_EQ(llama3("a  "), (Pieces{"a", "  "}));
  EXPECT_EQ(llama3("a  1"), (Pieces{"a", " ", " ", "1"}));
}

TEST(Split, Llama3KnowsContractionsInAnyCase) {
  EXPECT_EQ(llama3("I'S we'Re it'LL"), (Pieces{"I", "'S", " we", "'Re", " it", "'LL"}));
  EXPECT_EQ(llama3("'\xC5\xBF" "a"), (Pieces{"'\xC5\xBF", "a"}));  // the long s
  EXPECT_EQ(llama3("'word"), (Pieces{"'word"}));
}

TEST(Split, PiecesMakeUpAnyBytes) {
  RandomStream stream(1, "split");
  const std::string some[] = {" ", "\n", "'", "s", "1", "中", "🙂", "\xCC\x81", "\xFF", "\xE2\x80", "\xC2\xA0", "ll", "."};
  for (int i = 0; i < 2000; ++i) {
    std::string text;
    for (int64_t n = stream.below(30); n > 0; --n) {
      text += stream.below(4) == 0 ? std::string(1, static_cast<char>(stream.bits())) : some[stream.below(std::size(some))];
    }
    for (const SplitRule rule : {SplitRule::kWhole, SplitRule::kGpt2, SplitRule::kLlama3}) {
      std::string joined;
      for (const std::string& piece : split(rule, text)) {
        ASSERT_FALSE(piece.empty()) << text;
        joined += piece;
      }
      ASSERT_EQ(joined, text);
    }
  }
}

}  // namespace
}  // namespace hippodrome::split_test
