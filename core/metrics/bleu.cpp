#include "core/metrics/bleu.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/metrics/ngrams.h"
#include "core/metrics/tokenizer_13a.h"
#include "core/metrics/words.h"

namespace hippodrome {
namespace {

std::vector<std::string> bleu_words(std::string_view sentence, BleuTokenizer tokenizer) {
  if (tokenizer == BleuTokenizer::k13a) return words_13a(sentence);
  const std::vector<std::string_view> words = words_of(sentence);
  return {words.begin(), words.end()};
}

// Gives equal words of a pair of sentences equal numbers.
class WordNumbers {
 public:
  std::u32string of(const std::vector<std::string>& words) {
    std::u32string numbers;
    for (const std::string& word : words) {
      numbers += numbers_.try_emplace(word, static_cast<char32_t>(numbers_.size())).first->second;
    }
    return numbers;
  }

 private:
  std::unordered_map<std::string, char32_t> numbers_;
};

std::u32string dark_characters(std::string_view sentence) {
  std::u32string characters;
  for (const std::string_view word : words_of(sentence)) characters += characters_of(word);
  return characters;
}

}  // namespace

void BleuCounts::add(std::string_view hypothesis, std::string_view reference, BleuTokenizer tokenizer) {
  std::u32string ours, theirs;
  if (tokenizer == BleuTokenizer::kChar) {
    ours = dark_characters(hypothesis);
    theirs = dark_characters(reference);
  } else {
    WordNumbers numbers;
    ours = numbers.of(bleu_words(hypothesis, tokenizer));
    theirs = numbers.of(bleu_words(reference, tokenizer));
  }
  hypothesis_words += std::ssize(ours);
  reference_words += std::ssize(theirs);
  for (size_t n = 1; n <= kOrder; ++n) {
    ngrams[n - 1] += ngram_count(ours, n);
    matches[n - 1] += shared_ngrams(ours, theirs, n);
  }
}

BleuCounts& BleuCounts::operator+=(const BleuCounts& other) {
  hypothesis_words += other.hypothesis_words;
  reference_words += other.reference_words;
  for (size_t i = 0; i < kOrder; ++i) {
    matches[i] += other.matches[i];
    ngrams[i] += other.ngrams[i];
  }
  return *this;
}

double BleuCounts::brevity_penalty() const {
  if (hypothesis_words >= reference_words) return 1.0;
  if (hypothesis_words == 0) return 0.0;
  return std::exp(1.0 - static_cast<double>(reference_words) / static_cast<double>(hypothesis_words));
}

std::array<double, BleuCounts::kOrder> BleuCounts::precisions() const {
  std::array<double, kOrder> precisions{};
  if (std::ranges::all_of(matches, [](int64_t count) { return count == 0; })) return precisions;
  double halving = 1.0;
  for (size_t i = 0; i < kOrder && ngrams[i] > 0; ++i) {
    if (matches[i] == 0) halving *= 2.0;
    precisions[i] =
        100.0 * (matches[i] > 0 ? static_cast<double>(matches[i]) : 1.0 / halving) / static_cast<double>(ngrams[i]);
  }
  return precisions;
}

double BleuCounts::score(bool effective_order) const {
  const std::array<double, kOrder> values = precisions();
  // Orders without n-grams are the last ones.
  const auto counted = std::ranges::count_if(values, [](double precision) { return precision > 0.0; });
  if (counted == 0 || (!effective_order && counted < std::ssize(values))) return 0.0;
  double sum = 0.0;
  for (size_t i = 0; i < static_cast<size_t>(counted); ++i) sum += std::log(values[i]);
  return brevity_penalty() * std::exp(sum / static_cast<double>(counted));
}

}  // namespace hippodrome
