#pragma once

#include <cstdint>
#include <string_view>

namespace hippodrome {

// The share of sentences that are their reference, byte by byte.
struct ExactMatchCounts {
  int64_t sentences = 0, matches = 0;

  void add(std::string_view hypothesis, std::string_view reference) {
    ++sentences;
    matches += hypothesis == reference ? 1 : 0;
  }
  ExactMatchCounts& operator+=(const ExactMatchCounts& other) {
    sentences += other.sentences;
    matches += other.matches;
    return *this;
  }

  // 0 … 100; 0 for no sentences.
  double score() const {
    return sentences == 0 ? 0.0 : 100.0 * static_cast<double>(matches) / static_cast<double>(sentences);
  }
};

}  // namespace hippodrome
