#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace hippodrome {

// An n-gram model by counting: interpolated modified Kneser-Ney (Chen and Goodman 1999, section 3 and equation 26).
//
//   p_k(c | h) = max(N(hc) − D(N(hc)), 0) / N(h·) + γ(h) p_{k−1}(c | h without its oldest symbol),   p_0 = 1/V
//
// N counts occurrences at the highest order and distinct left neighbours below it; D is one of three discounts per
// order (for counts 1, 2, 3 and more), estimated from the counts of counts; γ(h) hands on exactly what was taken away,
// so the probabilities over c sum to one. Contexts are exact (sorted lists, no hashing). Memory: 16 bytes a symbol
// while training.
class CountModel {
 public:
  // `order` symbols at most, the predicted one included; lowered to what 64 bits can hold at this vocabulary (5-grams
  // of up to 12-bit ids, 4-grams of 16-bit ids). Needs at least `order` symbols.
  CountModel(int64_t order, int64_t vocabulary, std::span<const uint16_t> symbols);

  int64_t order() const { return static_cast<int64_t>(levels_.size()); }
  // Of `symbol` after `history` (oldest first; the last order − 1 symbols count, fewer are allowed).
  double probability(std::span<const uint16_t> history, uint16_t symbol) const;
  // Mean of −log2 p over the symbols of a stream after its first, each after all that came before it.
  double bits_per_symbol(std::span<const uint16_t> symbols) const;

 private:
  // The n-grams of one order, sorted, and grouped by context: the n-gram without its last symbol.
  struct Level {
    std::vector<uint64_t> grams;   // packed, oldest symbol highest
    std::vector<uint32_t> counts;  // N(hc)
    std::vector<uint64_t> contexts;
    std::vector<int64_t> begins;     // first n-gram of each context; one more at the end
    std::vector<double> totals;      // N(h·)
    std::vector<double> discounted;  // what the discounts took from the context's counts
    double discount[3];              // for counts 1, 2, 3 and more
  };

  static Level count(std::vector<uint64_t> grams, int symbol_bits, int gram_bits);
  double packed_probability(uint64_t history, int64_t length, uint16_t symbol) const;

  int bits_;                   // per symbol
  double uniform_;             // 1/V
  std::vector<Level> levels_;  // [k − 1]: k-grams
};

}  // namespace hippodrome
