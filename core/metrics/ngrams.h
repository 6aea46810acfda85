#pragma once

#include <cstdint>
#include <string_view>

namespace hippodrome {

// Sequences are of characters, or of words by number; n ≥ 1.
inline int64_t ngram_count(std::u32string_view sequence, size_t n) {
  return sequence.size() < n ? 0 : static_cast<int64_t>(sequence.size() - n + 1);
}

// How many n-grams both have, each counted as often as where it is rarer (clipped counts; Papineni et al. 2002,
// section 2.1.1).
int64_t shared_ngrams(std::u32string_view a, std::u32string_view b, size_t n);

}  // namespace hippodrome
