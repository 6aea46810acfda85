#include "core/base/random.h"

#include <cmath>
#include <numbers>

namespace hippodrome {
namespace random_detail {
namespace {

struct Block {
  uint64_t low;
  uint64_t high;
};

// Philox4x32 with ten rounds; constants from the paper's table 2 (multipliers) and section 4.2 (Weyl sequence).
Block philox(uint64_t key, uint64_t counter) {
  uint32_t x0 = static_cast<uint32_t>(counter), x1 = static_cast<uint32_t>(counter >> 32), x2 = 0, x3 = 0;
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = 0xD2511F53ull * x0;
    const uint64_t product1 = 0xCD9E8D57ull * x2;
    x0 = static_cast<uint32_t>(product1 >> 32) ^ x1 ^ k0;
    x1 = static_cast<uint32_t>(product1);
    x2 = static_cast<uint32_t>(product0 >> 32) ^ x3 ^ k1;
    x3 = static_cast<uint32_t>(product0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {x0 | static_cast<uint64_t>(x1) << 32, x2 | static_cast<uint64_t>(x3) << 32};
}

// FNV-1a, then one Philox block so that close names give unrelated keys.
uint64_t key_of(uint64_t seed, std::string_view name) {
  uint64_t hash = 0xCBF29CE484222325ull;
  for (const char character : name) {
    hash = (hash ^ static_cast<unsigned char>(character)) * 0x100000001B3ull;
  }
  return philox(seed, hash).low;
}

double unit_interval(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1.0p-53; }

}  // namespace
}  // namespace random_detail

RandomStream::RandomStream(uint64_t seed, std::string_view name) : key_(random_detail::key_of(seed, name)) {}

RandomStream RandomStream::from_key(uint64_t key) { return RandomStream(key); }

RandomStream RandomStream::fork(std::string_view name) const {
  return RandomStream(random_detail::key_of(key_, name));
}

RandomStream RandomStream::fork(uint64_t index) const { return RandomStream(random_detail::philox(key_, ~index).high); }

uint64_t RandomStream::bits_at(uint64_t index) const { return random_detail::philox(key_, index).low; }

double RandomStream::uniform_at(uint64_t index) const { return random_detail::unit_interval(bits_at(index)); }

double RandomStream::normal_at(uint64_t index) const {
  const random_detail::Block block = random_detail::philox(key_, index);
  // 1 - u is in (0, 1], where the logarithm is finite.
  const double radius = std::sqrt(-2.0 * std::log(1.0 - random_detail::unit_interval(block.low)));
  return radius * std::cos(2.0 * std::numbers::pi * random_detail::unit_interval(block.high));
}

int64_t RandomStream::below(int64_t bound) {
  const uint64_t range = static_cast<uint64_t>(bound);
  // Draws at or above the largest multiple of `range` would favour small values; they are drawn again.
  const uint64_t limit = ~uint64_t{0} - (~uint64_t{0} % range + 1) % range;
  uint64_t draw = bits();
  while (draw > limit) {
    draw = bits();
  }
  return static_cast<int64_t>(draw % range);
}

}  // namespace hippodrome
