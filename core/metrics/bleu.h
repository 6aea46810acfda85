#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace hippodrome {

// What BLEU counts as words, by sacreBLEU's names: 13a (tokenizer_13a.h), none (what white space parts), char
// (characters).
enum class BleuTokenizer { k13a, kNone, kChar };

// BLEU (Papineni et al. 2002) of a corpus with one reference per sentence, as sacreBLEU computes it by default (Post
// 2018, arXiv 1804.08771): n-grams up to 4, case counts, precisions without matches smoothed exponentially. Sentences
// are UTF-8. Counts of parts of a corpus add up to those of the whole.
struct BleuCounts {
  static constexpr size_t kOrder = 4;
  int64_t hypothesis_words = 0, reference_words = 0;
  std::array<int64_t, kOrder> matches{}, ngrams{};  // of hypotheses; [n - 1] for n-grams

  void add(std::string_view hypothesis, std::string_view reference, BleuTokenizer tokenizer = BleuTokenizer::k13a);
  BleuCounts& operator+=(const BleuCounts& other);

  double brevity_penalty() const;  // 0 … 1; 1 when the hypotheses have as many words as the references or more
  // 0 … 100. The k-th order without matches has 100 / (2^k · n-grams); without a match of any order, all are 0.
  std::array<double, kOrder> precisions() const;
  // 0 … 100: the brevity penalty times the precisions' geometric mean, 0 where an order has no n-gram at all. With
  // `effective_order` the mean is of the orders that have one, which suits single sentences (sacreBLEU's
  // sentence_bleu).
  double score(bool effective_order = false) const;
};

}  // namespace hippodrome
