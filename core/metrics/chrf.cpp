#include "core/metrics/chrf.h"

#include <string>
#include <unordered_map>
#include <vector>

#include "core/metrics/ngrams.h"
#include "core/metrics/words.h"

namespace hippodrome {
namespace {

constexpr std::u32string_view kChrfPunctuation = U"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

// Words with one mark of punctuation apart, at the end or else at the beginning; then a word of "(hi)" is "(hi".
std::vector<std::u32string> chrf_words(std::string_view sentence) {
  const auto punctuation = [](char32_t character) { return kChrfPunctuation.find(character) != kChrfPunctuation.npos; };
  std::vector<std::u32string> words;
  for (const std::string_view text : words_of(sentence)) {
    const std::u32string word = characters_of(text);
    const size_t cut = word.size() == 1            ? 0
                       : punctuation(word.back())  ? word.size() - 1
                       : punctuation(word.front()) ? 1
                                                   : 0;
    if (cut > 0) words.push_back(word.substr(0, cut));
    words.push_back(word.substr(cut));
  }
  return words;
}

struct ChrfSequences {
  std::u32string characters, words;
};

ChrfSequences chrf_sequences(std::string_view sentence, std::unordered_map<std::u32string, char32_t>& numbers) {
  ChrfSequences sequences;
  for (const std::u32string& word : chrf_words(sentence)) {
    sequences.characters += word;
    sequences.words += numbers.try_emplace(word, static_cast<char32_t>(numbers.size())).first->second;
  }
  return sequences;
}

}  // namespace

void ChrfCounts::add(std::string_view hypothesis, std::string_view reference) {
  std::unordered_map<std::u32string, char32_t> numbers;
  const ChrfSequences ours = chrf_sequences(hypothesis, numbers), theirs = chrf_sequences(reference, numbers);
  const auto add_order = [](Order& order, std::u32string_view a, std::u32string_view b, size_t n) {
    // What has no counterpart that it could match is not held against the hypothesis.
    if (ngram_count(b, n) > 0) order.hypothesis += ngram_count(a, n);
    order.reference += ngram_count(b, n);
    order.matches += shared_ngrams(a, b, n);
  };
  for (size_t n = 1; n <= kCharacterOrder; ++n) add_order(orders[n - 1], ours.characters, theirs.characters, n);
  for (size_t n = 1; n <= kWordOrder; ++n) add_order(orders[kCharacterOrder + n - 1], ours.words, theirs.words, n);
}

ChrfCounts& ChrfCounts::operator+=(const ChrfCounts& other) {
  for (size_t i = 0; i < orders.size(); ++i) {
    orders[i].hypothesis += other.orders[i].hypothesis;
    orders[i].reference += other.orders[i].reference;
    orders[i].matches += other.orders[i].matches;
  }
  return *this;
}

double ChrfCounts::score(size_t first_orders) const {
  double precision = 0.0, recall = 0.0, counted = 0.0;
  for (size_t i = 0; i < first_orders; ++i) {
    const Order& order = orders[i];
    if (order.hypothesis == 0 || order.reference == 0) continue;
    precision += static_cast<double>(order.matches) / static_cast<double>(order.hypothesis);
    recall += static_cast<double>(order.matches) / static_cast<double>(order.reference);
    ++counted;
  }
  if (precision + recall == 0.0) return 0.0;
  precision /= counted;
  recall /= counted;
  constexpr double kBetaSquared = 4.0;
  return 100.0 * (1.0 + kBetaSquared) * precision * recall / (kBetaSquared * precision + recall);
}

}  // namespace hippodrome
