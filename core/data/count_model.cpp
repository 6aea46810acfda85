#include "core/data/count_model.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <utility>

namespace hippodrome {
namespace {
namespace count_model {

// Least significant digit first, 11 bits at a time: four passes for a 5-gram of bytes, where comparisons would need 23.
void radix_sort(std::vector<uint64_t>& keys, int bits) {
  constexpr int kDigit = 11;
  std::vector<uint64_t> other(keys.size());
  for (int shift = 0; shift < bits; shift += kDigit) {
    std::array<int64_t, (1 << kDigit) + 1> starts{};
    for (const uint64_t key : keys) {
      ++starts[(key >> shift & ((1 << kDigit) - 1)) + 1];
    }
    for (int digit = 0; digit < 1 << kDigit; ++digit) {
      starts[digit + 1] += starts[digit];
    }
    for (const uint64_t key : keys) {
      other[starts[key >> shift & ((1 << kDigit) - 1)]++] = key;
    }
    keys.swap(other);
  }
}

uint64_t low_bits(int count) { return count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1; }

int kind(uint32_t count) { return static_cast<int>(std::min<uint32_t>(count, 3)) - 1; }

// Chen and Goodman's equation 26; where a count of counts is zero (small or very regular data) plain values stand in. A
// discount never falls to zero, so that every symbol keeps some probability.
void estimate_discounts(const std::vector<uint32_t>& counts, double (&discount)[3]) {
  double seen[5] = {};  // seen[i]: n-grams that occur i times
  for (const uint32_t count : counts) {
    if (count <= 4) {
      ++seen[count];
    }
  }
  for (int i = 1; i <= 3; ++i) {
    discount[i - 1] = 0.5;
    if (seen[1] > 0 && seen[i] > 0 && seen[i + 1] > 0) {
      const double share = seen[1] / (seen[1] + 2.0 * seen[2]);
      discount[i - 1] = std::clamp(i - (i + 1) * share * seen[i + 1] / seen[i], 0.05, static_cast<double>(i));
    }
  }
}

}  // namespace count_model
}  // namespace

CountModel::CountModel(int64_t order, int64_t vocabulary, std::span<const uint16_t> symbols)
    : bits_(std::max(1, static_cast<int>(std::bit_width(static_cast<uint64_t>(vocabulary - 1))))),
      uniform_(1.0 / static_cast<double>(vocabulary)) {
  const int top = static_cast<int>(std::min<int64_t>(order, 64 / bits_));
  std::vector<uint64_t> grams;
  grams.reserve(symbols.size());
  uint64_t window = 0;
  for (size_t i = 0; i < symbols.size(); ++i) {
    window = (window << bits_ | symbols[i]) & count_model::low_bits(top * bits_);
    if (i + 1 >= static_cast<size_t>(top)) {
      grams.push_back(window);
    }
  }
  levels_.resize(top);
  for (int k = top; k >= 1; --k) {
    levels_[k - 1] = count(std::move(grams), bits_, k * bits_);
    // One entry per distinct longer n-gram: what is counted one order down is the distinct left neighbours.
    grams = levels_[k - 1].grams;
    for (uint64_t& gram : grams) {
      gram &= count_model::low_bits((k - 1) * bits_);
    }
  }
}

CountModel::Level CountModel::count(std::vector<uint64_t> grams, int symbol_bits, int gram_bits) {
  count_model::radix_sort(grams, gram_bits);
  Level level;
  for (const uint64_t gram : grams) {
    if (!level.grams.empty() && level.grams.back() == gram) {
      ++level.counts.back();
    } else {
      level.grams.push_back(gram);
      level.counts.push_back(1);
    }
  }
  count_model::estimate_discounts(level.counts, level.discount);
  for (size_t i = 0; i < level.grams.size(); ++i) {
    const uint64_t context = level.grams[i] >> symbol_bits;
    if (level.contexts.empty() || level.contexts.back() != context) {
      level.contexts.push_back(context);
      level.begins.push_back(static_cast<int64_t>(i));
      level.totals.push_back(0.0);
      level.discounted.push_back(0.0);
    }
    level.totals.back() += level.counts[i];
    level.discounted.back() += level.discount[count_model::kind(level.counts[i])];
  }
  level.begins.push_back(static_cast<int64_t>(level.grams.size()));
  return level;
}

double CountModel::packed_probability(uint64_t history, int64_t length, uint16_t symbol) const {
  double probability = uniform_;
  for (int64_t k = 1; k <= std::min<int64_t>(order(), length + 1); ++k) {
    const Level& level = levels_[k - 1];
    const uint64_t context = history & count_model::low_bits(static_cast<int>(k - 1) * bits_);
    const auto found = std::lower_bound(level.contexts.begin(), level.contexts.end(), context);
    if (found == level.contexts.end() || *found != context) {
      break;  // then no longer context was seen either
    }
    const int64_t index = found - level.contexts.begin();
    const auto begin = level.grams.begin() + level.begins[index];
    const auto end = level.grams.begin() + level.begins[index + 1];
    const uint64_t gram = context << bits_ | symbol;
    const auto entry = std::lower_bound(begin, end, gram);
    double own = 0.0;
    if (entry != end && *entry == gram) {
      const uint32_t count = level.counts[entry - level.grams.begin()];
      own = count - level.discount[count_model::kind(count)];
    }
    probability = (own + level.discounted[index] * probability) / level.totals[index];
  }
  return probability;
}

double CountModel::probability(std::span<const uint16_t> history, uint16_t symbol) const {
  uint64_t packed = 0;
  for (const uint16_t past : history) {
    packed = packed << bits_ | past;
  }
  return packed_probability(packed, static_cast<int64_t>(history.size()), symbol);
}

double CountModel::bits_per_symbol(std::span<const uint16_t> symbols) const {
  double bits = 0.0;
  uint64_t history = 0;
  for (size_t i = 0; i < symbols.size(); ++i) {
    if (i > 0) {
      bits -= std::log2(packed_probability(history, static_cast<int64_t>(i), symbols[i]));
    }
    history = history << bits_ | symbols[i];
  }
  return bits / static_cast<double>(std::max<size_t>(symbols.size(), 2) - 1);
}

}  // namespace hippodrome
