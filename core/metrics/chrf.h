#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace hippodrome {

// chrF2 (Popović 2015, "chrF: character n-gram F-score for automatic MT evaluation", with β = 2) and chrF++ (Popović
// 2017, "chrF++: words helping character n-grams") of a corpus with one reference per sentence, as sacreBLEU computes
// them by default: character n-grams up to 6 without white space, word n-grams up to 2, case counts. Sentences are
// UTF-8. Counts of parts of a corpus add up to those of the whole.
struct ChrfCounts {
  static constexpr size_t kCharacterOrder = 6, kWordOrder = 2;
  struct Order {
    int64_t hypothesis = 0, reference = 0, matches = 0;
  };
  std::array<Order, kCharacterOrder + kWordOrder> orders{};  // characters' 1 … 6, words' 1 and 2

  void add(std::string_view hypothesis, std::string_view reference);
  ChrfCounts& operator+=(const ChrfCounts& other);

  // F2 of mean precision and mean recall, 0 … 100. The means are over the orders that both sides have; 0 where there is
  // none.
  double chrf() const { return score(kCharacterOrder); }
  double chrf_plus_plus() const { return score(kCharacterOrder + kWordOrder); }

 private:
  double score(size_t first_orders) const;
};

}  // namespace hippodrome
