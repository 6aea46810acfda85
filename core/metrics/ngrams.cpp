#include "core/metrics/ngrams.h"

#include <algorithm>
#include <iterator>
#include <vector>

namespace hippodrome {
namespace {

std::vector<std::u32string_view> sorted_ngrams(std::u32string_view sequence, size_t n) {
  std::vector<std::u32string_view> ngrams(static_cast<size_t>(ngram_count(sequence, n)));
  for (size_t i = 0; i < ngrams.size(); ++i) ngrams[i] = sequence.substr(i, n);
  std::sort(ngrams.begin(), ngrams.end());
  return ngrams;
}

}  // namespace

int64_t shared_ngrams(std::u32string_view a, std::u32string_view b, size_t n) {
  const auto of_a = sorted_ngrams(a, n), of_b = sorted_ngrams(b, n);
  std::vector<std::u32string_view> shared;
  std::set_intersection(of_a.begin(), of_a.end(), of_b.begin(), of_b.end(), std::back_inserter(shared));
  return std::ssize(shared);
}

}  // namespace hippodrome
