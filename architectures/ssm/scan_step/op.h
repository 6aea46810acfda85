// One token of a selective scan (selective_scan/op.h) or of SSD (ssd/op.h) with its state updated in place, for
// decoding: parameters and equations. No LibTorch here. Per batch row, head h with P channels (of group g = h / (H /
// G)), channel p and state n:
//
//   dt = clamp(softplus(dt_raw + dt_bias), low, high)     (softplus optional; the identity above 20)
//   h  = exp(dt A_n) h + dt B_n x
//   y  = (sum_n C_n h + D x) silu(z)                      (skip and gate optional)
//
// Mamba-1 has heads of one channel with an A per state, Mamba-2 heads of many with one A for all states. Real numbers
// and Euler's rule for B only.
//
// positions [B, 1]: -1 is padding (output 0, state kept), 0 starts a sequence (state zeroed first), other values
// continue. Null: every row continues.
//
// Moves the state twice, 2 B H P N numbers, which is what it costs where rows are many; where they are few, it is one
// launch instead of several.
#pragma once

#include <cstdint>
#include <limits>

namespace hippodrome::scan_step {

inline constexpr int64_t kMaxStates = 1024;
inline constexpr double kSoftplusThreshold = 20.0;  // above it softplus(x) = x

// What does not depend on types.
struct Sizes {
  int64_t batch = 0, heads = 0, head_size = 1, groups = 1, states = 0;  // B, H, P, G, N
  int64_t decays = 1;                                                   // A's per head: N, or 1 for all of them
  bool dt_softplus = false;
  double dt_low = 0.0, dt_high = std::numeric_limits<double>::infinity();
};

// Row b begins at data + b * batch and is contiguous.
template <class T>
struct Rows {
  T* data = nullptr;
  int64_t batch = 0;
};

// T: element type of what depends on the token; S: the scalar that is computed in.
template <class T, class S>
struct Params : Sizes {
  Rows<const T> x;                     // [B, H P]
  Rows<const T> dt;                    // [B, H]
  Rows<const T> B, C;                  // [B, G N]
  Rows<const T> z;                     // [B, H P] or null
  const S* A = nullptr;                // [H, N] or [H, 1]
  const S* D = nullptr;                // [H] or null
  const S* dt_bias = nullptr;          // [H] or null
  const int64_t* positions = nullptr;  // [B] or null
  S* state = nullptr;                  // [B, H, P, N]
  T* y = nullptr;                      // [B, H P]
};

}  // namespace hippodrome::scan_step
