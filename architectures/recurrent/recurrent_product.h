// The product h [rows, H] · Wᵀ of one time step, as both recurrent scans do it: storage of the packed weight.
#pragma once

#include <cstdint>

namespace hippodrome {

// Elements of the packed copy of weight_hh [gates·H, H], for any instruction set and either direction. Units are padded
// to whole vectors, at most 64 lanes; the kernel decides the order inside.
inline int64_t recurrent_packed_elements(int64_t gates, int64_t hidden) {
  return gates * hidden * ((hidden + 63) / 64 * 64);
}

// A call of at most this many (row, token) pairs, a decoding step above all, reads the weight where it lies: packing
// costs about ten times one product (measured at H = 256, AVX-512).
inline constexpr int64_t kRecurrentDirectTokens = 8;

}  // namespace hippodrome
