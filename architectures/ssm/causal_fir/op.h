// A causal finite impulse response over time with many taps, per channel, with a carried window: the recurrence of a
// shift state-space model (Dao, Fu et al. 2022, "Hungry Hungry Hippos", section 3.1). Its state moves every input one
// place on and forgets it after K tokens, so that its output is a sum over the last K inputs:
//
//   y_t = Σ_{j<K} w_j ∘ x_{t-j}
//
// The K inputs before the first token come from the state [B, K, D], oldest first (zeros for a fresh one), and the last
// K inputs leave in it. The oldest of them is read by no further token; a shift model of N = K states holds it, so it
// is kept here as well. "Before" counts tokens that are there: padding (position -1) is skipped, and its y is 0.
// Position 0 starts a sequence: the window before it is zeros. Adjoint, with g_t = ∂/∂y_t:
//
//   ∂x_s = Σ_j w_j g_{s+j} (+ the last state's gradient where x_s is in it),   ∂w_j = Σ_t g_t x_{t-j}
//
// Unlike causal_conv1d, which keeps a few taps in registers and runs through time once, this is a product of a Toeplitz
// matrix done in square blocks of tokens and taps, and its window lies time-major, so that a step moves whole rows.
// Per token and channel: 2 K multiplications and additions.
#pragma once

#include <cstdint>

namespace hippodrome {

inline constexpr int64_t kCausalFirMaxTaps = 4096;
// Channels a work item takes, whatever the vector width: one AVX-512 vector of float.
inline constexpr int64_t kCausalFirGroup = 16;
// Tokens gathered at a time: they and a window of 64 stay in the L1 cache.
inline constexpr int64_t kCausalFirTile = 256;
// Channels a work item of a single step takes: several cache lines of each row of the window.
inline constexpr int64_t kCausalFirStepBlock = 64;

inline int64_t causal_fir_groups(int64_t channels) { return (channels + kCausalFirGroup - 1) / kCausalFirGroup; }
inline int64_t causal_fir_step_blocks(int64_t channels) {
  return (channels + kCausalFirStepBlock - 1) / kCausalFirStepBlock;
}

template <class T>
struct CausalFirForward {
  int64_t batch, channels, length, taps;  // B, D, L, K
  const T* x;                             // [B, L, D]
  const T* weight;                        // [K, D], the newest input's first
  const T* state;                         // [B, K, D] or null for zeros
  const int64_t* positions;               // [B, L] or null
  T* y;                                   // [B, L, D]
  T* last_state;                          // [B, K, D]
};

template <class T>
struct CausalFirBackward {
  int64_t batch, channels, length, taps;
  const T* x;
  const T* weight;
  const T* state;  // or null
  const int64_t* positions;
  const T* grad_y;           // [B, L, D]
  const T* grad_last_state;  // [B, K, D]
  T* grad_x;                 // [B, L, D]
  T* grad_weight;            // [K, D]
  T* grad_state;             // [B, K, D]
};

// Forward over items [begin, end) of groups · B: item / B is the group of channels, item % B the row.
template <class T>
void causal_fir_forward(const CausalFirForward<T>& p, int64_t begin, int64_t end);
// One token (L = 1) over items [begin, end) of B · step blocks, blocks of channels fastest.
template <class T>
void causal_fir_step(const CausalFirForward<T>& p, int64_t begin, int64_t end);
// Backward over groups [begin, end); a group goes through the rows in order, so its weights' sums have one order.
template <class T>
void causal_fir_backward(const CausalFirBackward<T>& p, int64_t begin, int64_t end);

}  // namespace hippodrome
