#pragma once

#include <cstdint>
#include <string_view>

namespace hippodrome {

// A named, counter-based stream of random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011). Its value at an index depends on (seed, name, index) alone, so that a run repeats bit for bit on any
// machine, draws can be made in any order, and a resumed run needs no saved generator state.
class RandomStream {
 public:
  // Two streams are independent when seed or name differ.
  RandomStream(uint64_t seed, std::string_view name);

  // The stream whose key() is `key`, at its beginning.
  static RandomStream from_key(uint64_t key);

  // A child stream, independent of this one and of children by other names or indices.
  RandomStream fork(std::string_view name) const;
  RandomStream fork(uint64_t index) const;

  // Random access: 64 uniform bits; uniform in [0, 1) with 53 bits; standard normal (Box-Muller on the pair at `index`).
  uint64_t bits_at(uint64_t index) const;
  double uniform_at(uint64_t index) const;
  double normal_at(uint64_t index) const;

  // In sequence: the same values at indices 0, 1, 2, ….
  uint64_t bits() { return bits_at(position_++); }
  double uniform() { return uniform_at(position_++); }
  double normal() { return normal_at(position_++); }
  // Uniform integer in [0, bound), without bias; bound > 0.
  int64_t below(int64_t bound);

  // Identifies the stream: equal exactly when both streams give the same numbers.
  uint64_t key() const { return key_; }

 private:
  explicit RandomStream(uint64_t key) : key_(key) {}

  uint64_t key_;
  uint64_t position_ = 0;
};

}  // namespace hippodrome
