#include "core/data/count_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "core/base/random.h"

namespace hippodrome {
namespace {

std::vector<uint16_t> symbols_of(const std::string& text) { return {text.begin(), text.end()}; }

// Symbols that follow the two before them nine times in ten.
std::vector<uint16_t> grammar(int64_t size, int64_t vocabulary, uint64_t seed) {
  RandomStream random(seed, "grammar");
  std::vector<uint16_t> symbols = {0, 1};
  while (static_cast<int64_t>(symbols.size()) < size) {
    const size_t end = symbols.size();
    const bool regular = random.uniform() < 0.9;
    symbols.push_back(static_cast<uint16_t>(regular ? (5 * symbols[end - 1] + 3 * symbols[end - 2] + 1) % vocabulary
                                                    : random.below(vocabulary)));
  }
  return symbols;
}

double total(const CountModel& model, const std::vector<uint16_t>& history, int64_t vocabulary) {
  double sum = 0.0;
  for (int64_t symbol = 0; symbol < vocabulary; ++symbol) {
    const double probability = model.probability(history, static_cast<uint16_t>(symbol));
    EXPECT_GT(probability, 0.0);
    sum += probability;
  }
  return sum;
}

TEST(CountModel, ProbabilitiesSumToOneAfterAnyHistory) {
  for (const int64_t vocabulary : {2, 17, 256, 3000}) {
    for (const int64_t order : {1, 2, 5}) {
      const std::vector<uint16_t> symbols = grammar(4000, vocabulary, 1);
      const CountModel model(order, vocabulary, symbols);
      EXPECT_EQ(model.order(), order);
      RandomStream random(2, "histories");
      for (int64_t length = 0; length <= 6; ++length) {
        const int64_t start = random.below(3000);
        const std::vector<uint16_t> seen(symbols.begin() + start, symbols.begin() + start + length);
        EXPECT_NEAR(total(model, seen, vocabulary), 1.0, 1e-12);
        std::vector<uint16_t> invented;
        for (int64_t i = 0; i < length; ++i) {
          invented.push_back(static_cast<uint16_t>(random.below(vocabulary)));
        }
        EXPECT_NEAR(total(model, invented, vocabulary), 1.0, 1e-12);
      }
    }
  }
}

// By hand, order 2, on "abab" + "acab": bigrams ab 3, ba 2, ac 1, ca 1. One of the counts of counts (of 3 + 1 = 4) is
// zero for i = 3, and n1 = 2, n2 = 1, n3 = 1: share Y = 2 / (2 + 2) = 1/2, D1 = 1 − 2·Y·1/2 = 1/2, D2 = 2 − 3·Y·1/1 =
// 1/2, D3 = 1/2 (stand-in). Left neighbours: of a {b, c} 2, of b {a} 1, of c {a} 1; n1 = 2, n2 = 1, n3 = 0: D1 = 1/2,
// D2 = 1/2.
//   p_1(b) = (1 − 1/2)/4 + (3·1/2)/4 · 1/256, p_1(z) = (3/2)/4 · 1/256
//   p_2(b | a) = (3 − 1/2)/4 + (2·1/2)/4 · p_1(b), p_2(z | a) = 1/4 · p_1(z)
TEST(CountModel, IsTheFormula) {
  const CountModel model(2, 256, symbols_of("ababacab"));
  const double unseen = 1.5 / 4.0 / 256.0;
  const double b = 0.5 / 4.0 + unseen;
  EXPECT_NEAR(model.probability({}, 'b'), b, 1e-15);
  EXPECT_NEAR(model.probability({}, 'z'), unseen, 1e-15);
  EXPECT_NEAR(model.probability(symbols_of("a"), 'b'), 2.5 / 4.0 + 0.25 * b, 1e-15);
  EXPECT_NEAR(model.probability(symbols_of("xa"), 'z'), 0.25 * unseen, 1e-15);
  // A context that was never seen adds nothing.
  EXPECT_NEAR(model.probability(symbols_of("x"), 'b'), b, 1e-15);
}

TEST(CountModel, BitsAreTheMeanOverTheStream) {
  const CountModel model(3, 16, grammar(2000, 16, 1));
  const std::vector<uint16_t> text = grammar(50, 16, 2);
  double bits = 0.0;
  for (size_t i = 1; i < text.size(); ++i) {
    bits -= std::log2(model.probability(std::span(text).first(i), text[i]));
  }
  EXPECT_NEAR(model.bits_per_symbol(text), bits / 49.0, 1e-12);
}

TEST(CountModel, LongerContextsHelpWhereTheyMatter) {
  const std::vector<uint16_t> train = grammar(50000, 16, 1);
  const std::vector<uint16_t> test = grammar(10000, 16, 2);
  const double unigram = CountModel(1, 16, train).bits_per_symbol(test);
  const double bigram = CountModel(2, 16, train).bits_per_symbol(test);
  const double trigram = CountModel(3, 16, train).bits_per_symbol(test);
  // The grammar's entropy: right with 0.9 + 0.1/16, each of the others with 0.1/16.
  const double right = 0.9 + 0.1 / 16;
  const double entropy = -right * std::log2(right) - 15 * 0.1 / 16 * std::log2(0.1 / 16);
  EXPECT_NEAR(unigram, 4.0, 0.05);
  EXPECT_GT(bigram, trigram + 1.0);
  EXPECT_NEAR(trigram, entropy, 0.03);
  EXPECT_GT(trigram, entropy - 0.02);
}

TEST(CountModel, LowersItsOrderToWhatFits) {
  EXPECT_EQ(CountModel(5, 4096, grammar(100, 50, 1)).order(), 5);
  EXPECT_EQ(CountModel(5, 50257, grammar(100, 50, 1)).order(), 4);
  const CountModel wide(5, 65536, grammar(3000, 60000, 1));
  EXPECT_NEAR(total(wide, grammar(8, 60000, 1), 65536), 1.0, 1e-11);
}

}  // namespace
}  // namespace hippodrome
