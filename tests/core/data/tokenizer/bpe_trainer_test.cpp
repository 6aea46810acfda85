#include "core/data/tokenizer/bpe_trainer.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <tuple>

#include "core/base/random.h"
#include "core/data/tokenizer/tokenizer_json.h"
#include "core/io/atomic_file.h"
#include "tests/test_folder.h"

namespace hippodrome::bpe_trainer_test {
namespace {

using Merges = std::vector<std::pair<std::string, std::string>>;

std::unique_ptr<Tokenizer> tokenizer_of(const Merges& merges) {
  auto tokenizer = parse_tokenizer_json(byte_pair_json(merges), "learned");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

std::vector<std::string> tokens_of(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<std::string> tokens;
  for (const int64_t id : tokenizer.encode(text)) tokens.push_back(tokenizer.token(id));
  return tokens;
}

// The dictionary of Sennrich et al. 2016, algorithm 1, "_" for the end of a word. The first five merges are the
// paper's; after them n-e, e-w and w-est_ occur six times each, and the paper's program takes another of these first.
TEST(BytePairTrainer, MergesAsWorkedOutByHand) {
  const PieceCounts counts = {{"low_", 5}, {"lower_", 2}, {"newest_", 6}, {"widest_", 3}};
  const Merges expected = {{"e", "s"},     {"es", "t"},     {"est", "_"},    {"l", "o"},   {"lo", "w"},
                           {"e", "w"},     {"ew", "est_"},  {"n", "ewest_"}, {"low", "_"}, {"d", "est_"},
                           {"i", "dest_"}, {"w", "idest_"}, {"e", "r"},      {"er", "_"},  {"low", "er_"}};
  EXPECT_EQ(learn_byte_pairs(counts, 100), expected);
  EXPECT_EQ(learn_byte_pairs(counts, 5), Merges(expected.begin(), expected.begin() + 5));
}

TEST(BytePairTrainer, EndsWhereNothingOccursTwice) {
  EXPECT_TRUE(learn_byte_pairs({}, 10).empty());
  EXPECT_TRUE(learn_byte_pairs({{"abc", 1}}, 10).empty());
  EXPECT_EQ(learn_byte_pairs({{"abab", 1}}, 10), (Merges{{"a", "b"}}));
  EXPECT_EQ(learn_byte_pairs({{"aaaaa", 1}}, 1), (Merges{{"a", "a"}}));
}

TEST(BytePairTrainer, CountsWordsWithTheirSpace) {
  PieceCounts counts;
  count_pieces("the cat, the hat", counts);
  count_pieces(" the", counts);
  count_pieces("", counts);
  EXPECT_EQ(counts, (PieceCounts{{" the", 3}, {" cat", 1}, {",", 1}, {" hat", 1}}));
}

// What merging means, the slow way: count all pairs anew each time.
Merges plainly(const PieceCounts& counts, int64_t merges) {
  std::vector<std::pair<std::vector<std::string>, int64_t>> words;
  for (const auto& [piece, count] : counts) {
    std::vector<std::string> tokens;
    for (const char byte : piece) tokens.emplace_back(1, byte);
    words.emplace_back(tokens, count);
  }
  Merges learned;
  while (static_cast<int64_t>(learned.size()) < merges) {
    std::map<std::pair<std::string, std::string>, int64_t> pairs;
    for (const auto& [tokens, count] : words) {
      for (size_t i = 0; i + 1 < tokens.size(); ++i) pairs[{tokens[i], tokens[i + 1]}] += count;
    }
    int64_t most = 1;
    std::pair<std::string, std::string> best;
    for (const auto& [pair, count] : pairs) {
      if (count > most) std::tie(most, best) = std::pair(count, pair);
    }
    if (most < 2) break;
    learned.push_back(best);
    for (auto& [tokens, count] : words) {
      for (size_t i = 0; i + 1 < tokens.size(); ++i) {
        if (tokens[i] == best.first && tokens[i + 1] == best.second) {
          tokens[i] += tokens[i + 1];
          tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(i) + 1);
        }
      }
    }
  }
  return learned;
}

TEST(BytePairTrainer, EqualsCountingAnew) {
  RandomStream random(3, "words");
  for (const int64_t letters : {2, 3, 8}) {
    PieceCounts counts;
    for (int word = 0; word < 200; ++word) {
      std::string piece;
      for (int64_t i = 0, size = 1 + random.below(9); i < size; ++i)
        piece += static_cast<char>('a' + random.below(letters));
      counts[piece] += 1 + random.below(5);
    }
    const Merges learned = learn_byte_pairs(counts, 150);
    EXPECT_EQ(learned, plainly(counts, 150));
    EXPECT_EQ(learned, learn_byte_pairs(counts, 150));
    EXPECT_GT(learned.size(), 80u);
  }
}

TEST(BytePairTrainer, EncodesTheTrainingTextAsItWasMerged) {
  PieceCounts counts;
  for (int i = 0; i < 3; ++i)
    count_pieces(
        "Gr\xC3\xBC\xC3\x9F"
        "e an alle Pferde, gro\xC3\x9F"
        "e und kleine",
        counts);
  const auto tokenizer = tokenizer_of(learn_byte_pairs(counts, 1000));
  EXPECT_EQ(tokens_of(*tokenizer,
                      "Pferde und Gr\xC3\xBC\xC3\x9F"
                      "e,"),
            (std::vector<std::string>{" Pferde", " und",
                                      " Gr\xC3\xBC\xC3\x9F"
                                      "e",
                                      ","}));
  for (const std::string text : {"Unbekanntes wird zu Bytes: \xE4\xB8\xAD\xFF", "  zwei  Leerzeichen", " ein"}) {
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), (text[0] == ' ' ? "" : " ") + text);
  }
}

TEST(BytePairTrainer, TokensOfTheSameBytesAreOne) {
  const auto tokenizer = tokenizer_of({{"a", "b"}, {"b", "c"}, {"ab", "c"}, {"a", "bc"}, {"abc", "d"}});
  EXPECT_EQ(tokenizer->vocabulary(), 256 + 4);
  EXPECT_EQ(tokens_of(*tokenizer, " abcd"), (std::vector<std::string>{" ", "abcd"}));
}

TEST(BytePairTrainer, WritesWhatIsReadAsATokenizer) {
  const std::filesystem::path folder = testing_folder::own_folder();
  std::filesystem::create_directories(folder);
  const Merges merges = learn_byte_pairs({{" low", 5}, {" lower", 2}, {" \xC3\xA9t\xC3\xA9", 2}}, 100);
  ASSERT_TRUE(write_file(folder / "tokenizer.json", byte_pair_json(merges)).ok());
  const auto loaded = load_tokenizer(folder);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ((*loaded)->encode("lower \xC3\xA9t\xC3\xA9 !"), tokenizer_of(merges)->encode("lower \xC3\xA9t\xC3\xA9 !"));
  EXPECT_EQ((*loaded)->vocabulary(), 256 + static_cast<int64_t>(merges.size()));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace hippodrome::bpe_trainer_test
