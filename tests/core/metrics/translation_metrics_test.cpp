#include <gmock/gmock.h>

#include <random>
#include <string>
#include <vector>

#include "core/metrics/bleu.h"
#include "core/metrics/chrf.h"
#include "core/metrics/exact_match.h"
#include "core/metrics/tokenizer_13a.h"
#include "core/metrics/words.h"

namespace hippodrome {
namespace {

// Scores by sacreBLEU 2.6.0: corpora of one sentence, but for `sentence`, which is sentence_bleu.
struct ScoredPair {
  std::string hypothesis, reference;
  std::string words;  // the hypothesis by 13a
  double bleu, sentence, none, characters, chrf, chrf_plus_plus;
};

const std::vector<ScoredPair> kPairs = {
    {"", "the cat sat", "", 0, 0, 0, 0, 0, 0},
    {"the cat sat on the mat", "", "the cat sat on the mat", 0, 0, 0, 0, 0, 0},
    {"", "", "", 0, 0, 0, 0, 0, 0},
    {"the cat", "the cat", "the cat", 0, 100, 0, 100, 100, 100},
    {"the cat sat on the mat", "the cat sat on the mat", "the cat sat on the mat", 100, 100, 100, 100, 100, 100},
    {"the the the the the the the", "the cat is on the mat", "the the the the the the the", 7.8098498, 7.8098498,
     7.8098498, 12.2171145, 14.2324268, 14.715329},
    {"It is a guide to action which ensures that the military always obeys the commands of the party.",
     "It is a guide to action that ensures that the military will forever heed Party commands.",
     "It is a guide to action which ensures that the military always obeys the commands of the party .", 39.6708829,
     39.6708829, 40.2107469, 64.178802, 62.3977166, 61.5204858},
    {"The price is 1,000.5 dollars, or 1.000,5 in Europe.", "The price was 1,000.5 dollars , or 1.000,5 in Europe!",
     "The price is 1,000.5 dollars , or 1.000,5 in Europe .", 63.1555237, 63.1555237, 20.9006714, 89.3386299,
     86.9735711, 84.2088332},
    {"Don't say \"no\" - it's the boys' (well-known) 9-to-5 job...",
     "Do not say \"no\": it's the boys' (well known) 9-to-5 job.",
     "Don't say \" no \" - it's the boys' ( well-known ) 9 - to-5 job . . .", 50.7278464, 50.7278464, 16.0585164,
     79.4635632, 77.8045819, 68.2453706},
    {"&quot;AT&amp;T&quot; &lt;b&gt; &amp;lt; &amp;amp;quot;", "\"AT&T\" <b> < &quot;",
     "\" AT & T \" < b > < & amp ; quot ;", 59.5640359, 59.5640359, 0, 11.7801582, 22.4548381, 19.0759757},
    {"Der Käufer fährt über die Brücke zur Größe Münchens.", "Der Käufer fuhr über die große Brücke nach München.",
     "Der Käufer fährt über die Brücke zur Größe Münchens .", 13.1345495, 13.1345495, 14.2587698, 61.5930514,
     54.0864364, 50.8433748},
    {"今天天气很好,我们去公园。", "今天的天气很好,我们去公园玩。", "今天天气很好 , 我们去公园。", 0, 27.5160604, 0,
     69.1972744, 65.8559541, 56.4479607},
    {"I ❤️ 🍕 and 👩\342\200\215👩\342\200\215👧 today 🎉!",
     "I love 🍕 and 👩\342\200\215👩\342\200\215👦 today 🎉🎉!",
     "I ❤️ 🍕 and 👩\342\200\215👩\342\200\215👧 today 🎉 !", 13.8880952, 13.8880952, 15.6196997,
     55.5349986, 48.7331502, 46.1779492},
    {"  two   spaces\tand\302\240others\343\200\200here \342\200\250 ", "two spaces and others here",
     "two spaces and others here", 100, 100, 100, 100, 100, 100},
    {"well-\nknown<skipped> lines\nend-\n", "wellknown lines end-", "wellknown lines end-", 0, 100, 31.9471552,
     49.3557882, 58.8057114, 59.2584085},
    {"$5.00/kg @home #1 50% a_b {x} [y] ~z `q` ^w | ; = + * \\ ?",
     "$5.00 / kg @home #1 50 % a_b {x} [y] ~z `q` ^w | ; = +* \\?",
     "$ 5.00 / kg @ home # 1 50 % a _ b { x } [ y ] ~ z ` q ` ^ w | ; = + * \\ ?", 100, 100, 48.9753262, 100, 100,
     97.1461686},
    {"a..b ,,c 1.a b.2 3-4 x-5 6--7 .", "a . . b , , c 1. a b .2 3 - 4 x-5 6 -- 7 .",
     "a . . b , , c 1 . a b . 2 3 - 4 x-5 6 - -7 .", 85.7106112, 85.7106112, 1.6604671, 100, 100, 77.1846413},
    {"é.ü, –1.5– ５.５", "é. ü , – 1.5 – ５ . ５", "é . ü , –1.5– ５ . ５", 38.9400392, 38.9400392, 0, 100, 100,
     76.6177653},
    {"Reads U\034+\035unit\036separators\037too\302\205\013\014\015 end", "Reads U + unit separators too end",
     "Reads U + unit separators too end", 100, 100, 100, 100, 100, 100},
};
constexpr double kPrinted = 1e-7;

double bleu_of(const ScoredPair& pair, BleuTokenizer tokenizer, bool effective_order = false) {
  BleuCounts counts;
  counts.add(pair.hypothesis, pair.reference, tokenizer);
  return counts.score(effective_order);
}

TEST(Tokenizer13a, PartsWordsAsSacreBleuDoes) {
  for (const ScoredPair& pair : kPairs) {
    std::string joined;
    for (const std::string& word : words_13a(pair.hypothesis)) joined += (joined.empty() ? "" : " ") + word;
    EXPECT_EQ(joined, pair.words);
  }
}

TEST(Bleu, IsSacreBleusForEachPair) {
  for (const ScoredPair& pair : kPairs) {
    SCOPED_TRACE(pair.hypothesis);
    EXPECT_NEAR(bleu_of(pair, BleuTokenizer::k13a), pair.bleu, kPrinted);
    EXPECT_NEAR(bleu_of(pair, BleuTokenizer::k13a, /*effective_order=*/true), pair.sentence, kPrinted);
    EXPECT_NEAR(bleu_of(pair, BleuTokenizer::kNone), pair.none, kPrinted);
    EXPECT_NEAR(bleu_of(pair, BleuTokenizer::kChar), pair.characters, kPrinted);
  }
}

TEST(Bleu, CountsAddUpToTheCorpus) {
  BleuCounts corpus, none, characters;
  for (const ScoredPair& pair : kPairs) {
    BleuCounts sentence;
    sentence.add(pair.hypothesis, pair.reference);
    corpus += sentence;
    none.add(pair.hypothesis, pair.reference, BleuTokenizer::kNone);
    characters.add(pair.hypothesis, pair.reference, BleuTokenizer::kChar);
  }
  EXPECT_THAT(corpus.matches, testing::ElementsAre(140, 109, 89, 74));
  EXPECT_THAT(corpus.ngrams, testing::ElementsAre(182, 165, 148, 132));
  EXPECT_EQ(corpus.hypothesis_words, 182);
  EXPECT_EQ(corpus.reference_words, 174);
  EXPECT_NEAR(corpus.score(), 64.33485408599623, 1e-10);
  EXPECT_NEAR(none.score(), 32.19812887696863, 1e-10);
  EXPECT_NEAR(characters.score(), 68.5483256543961, 1e-10);
}

TEST(Bleu, HasThePrecisionsAndThePenaltyOfItsCounts) {
  BleuCounts counts;
  counts.add("the cat sat here now", "the cat lay there on the warm mat");
  // Three and four words in a row are nowhere shared: 100 / (2 · 3) and 100 / (4 · 2).
  EXPECT_THAT(counts.precisions(), testing::ElementsAre(40.0, 25.0, testing::DoubleNear(100.0 / 6.0, 1e-12), 12.5));
  EXPECT_NEAR(counts.brevity_penalty(), 0.5488116360940264, 1e-15);  // exp(1 − 8 / 5)
  EXPECT_EQ(BleuCounts{}.brevity_penalty(), 1.0);
  EXPECT_EQ(BleuCounts{}.score(), 0.0);
}

TEST(Chrf, IsSacreBleusForEachPair) {
  for (const ScoredPair& pair : kPairs) {
    SCOPED_TRACE(pair.hypothesis);
    ChrfCounts counts;
    counts.add(pair.hypothesis, pair.reference);
    EXPECT_NEAR(counts.chrf(), pair.chrf, kPrinted);
    EXPECT_NEAR(counts.chrf_plus_plus(), pair.chrf_plus_plus, kPrinted);
  }
}

TEST(Chrf, CountsAddUpToTheCorpus) {
  ChrfCounts corpus;
  for (const ScoredPair& pair : kPairs) {
    ChrfCounts sentence;
    sentence.add(pair.hypothesis, pair.reference);
    corpus += sentence;
  }
  EXPECT_NEAR(corpus.chrf(), 72.31875728924726, 1e-10);
  EXPECT_NEAR(corpus.chrf_plus_plus(), 67.32412927882349, 1e-10);
}

TEST(TranslationMetrics, ABrokenCharacterIsItselfAlone) {
  EXPECT_EQ(characters_of("a\xC3\xA4\xC3z"), (std::u32string{U'a', U'\u00E4', 0x1100C3, U'z'}));
  ChrfCounts same, other;
  same.add("\xFF\xFE words", "\xFF\xFE words");
  other.add("\xFF", "\xFE");
  EXPECT_DOUBLE_EQ(same.chrf(), 100.0);
  EXPECT_EQ(other.chrf(), 0.0);
}

TEST(TranslationMetrics, AnyBytesScoreWithinBounds) {
  std::mt19937 random(7);
  std::uniform_int_distribution<int> byte(0, 255), length(0, 60), pick(0, 3);
  const auto text = [&] {
    std::string result;
    for (int i = length(random); i > 0; --i)
      result += pick(random) > 0 ? "a. &1-,\xE2\x80\xF0"[byte(random) % 10] : static_cast<char>(byte(random));
    return result;
  };
  for (int i = 0; i < 3000; ++i) {
    const std::string a = text(), b = text();
    for (const auto tokenizer : {BleuTokenizer::k13a, BleuTokenizer::kNone, BleuTokenizer::kChar}) {
      BleuCounts bleu;
      bleu.add(a, b, tokenizer);
      const double score = bleu.score(/*effective_order=*/true);
      ASSERT_TRUE(score >= 0.0 && score <= 100.0 + 1e-9) << score;
      BleuCounts itself;
      itself.add(a, a, tokenizer);
      ASSERT_NEAR(itself.score(/*effective_order=*/true), itself.hypothesis_words > 0 ? 100.0 : 0.0, 1e-9);
    }
    ChrfCounts chrf, itself;
    chrf.add(a, b);
    itself.add(a, a);
    ASSERT_TRUE(chrf.chrf_plus_plus() >= 0.0 && chrf.chrf_plus_plus() <= 100.0 + 1e-9);
    ASSERT_NEAR(itself.chrf(), words_of(a).empty() ? 0.0 : 100.0, 1e-9);
  }
}

TEST(ExactMatch, CountsEqualSentences) {
  ExactMatchCounts corpus, more;
  EXPECT_EQ(corpus.score(), 0.0);
  corpus.add("a b", "a b");
  corpus.add("a b", "a b ");
  more.add("", "");
  more.add("A", "a");
  corpus += more;
  EXPECT_EQ(corpus.sentences, 4);
  EXPECT_DOUBLE_EQ(corpus.score(), 50.0);
}

}  // namespace
}  // namespace hippodrome
