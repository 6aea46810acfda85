// What the CUDA kernels of the diagonal-plus-low-rank scan are made of. A channel's states are shared out to a group of
// threads, four to each, and stay in their registers with the parameters; tiles of tokens pass through shared memory.
// Every token needs sums over all states before the next one can begin, so the time that these take, one token after
// another, is the limit where rows and channels are few.
#pragma once

#include <cstdint>

#include "architectures/ssm/dplr_scan/cuda.h"
#include "core/cuda/block.h"

namespace hippodrome::dplr_scan_cuda {

using cuda::ceil_div;
using cuda::shared_size;
using Problem = DplrScanProblem;

inline constexpr int kModes = 4, kTile = 32;
inline constexpr int kPadding = -1, kFresh = 0, kContinues = 1;  // codes of positions

// How a block is laid out: kGroup threads for each of its channels, which are neighbours.
template <class Scalar, int kRankOf, int kGroupOf, int kThreadsOf>
struct Layout {
  using S = Scalar;
  static constexpr int kRank = kRankOf, kGroup = kGroupOf, kThreads = kThreadsOf, kChannels = kThreads / kGroup;

  struct Place {
    int64_t row, channel;  // the block's first channel
  };
  static HIPPODROME_HOST_DEVICE int64_t places(const Problem& p) { return p.batch * ceil_div(p.channels, kChannels); }
  static HIPPODROME_HOST_DEVICE Place place(const Problem& p, int64_t block) {
    const int64_t groups = ceil_div(p.channels, kChannels);
    return {block / groups, block % groups * kChannels};
  }

  // A thread's channel and its states n = lane + k kGroup, k < kModes.
  struct Mine {
    int64_t row, channel, states;
    int lane;
    HIPPODROME_HOST_DEVICE int64_t n(int k) const { return lane + k * kGroup; }
    HIPPODROME_HOST_DEVICE bool has(int k) const { return channel >= 0 && n(k) < states; }
  };
  static HIPPODROME_HOST_DEVICE Mine mine(const Problem& p, const Place& at, int thread) {
    const int64_t channel = at.channel + thread / kGroup;
    return {at.row, channel < p.channels ? channel : -1, p.states, thread % kGroup};
  }
};

template <class S>
struct Modes {  // complex numbers
  S re[kModes], im[kModes];
};

template <class S, int kRank>
struct Parameters {
  Modes<S> a, b, c, q[kRank], w[kRank];
};

template <class S>
HIPPODROME_HOST_DEVICE void set_zero(Modes<S>& x) {
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) x.re[k] = x.im[k] = S(0);
}

// The thread's states in row `row` of [rows, N, 2]; zeros where there are none, or no tensor.
template <class S, class Mine>
HIPPODROME_HOST_DEVICE void load(const Mine& m, const void* from, int64_t row, Modes<S>& x) {
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) {
    const bool there = from != nullptr && m.has(k);
    const S* const at = static_cast<const S*>(from) + (there ? (row * m.states + m.n(k)) * 2 : 0);
    x.re[k] = there ? at[0] : S(0);
    x.im[k] = there ? at[1] : S(0);
  }
}
template <class S, class Mine>
HIPPODROME_HOST_DEVICE void store(const Mine& m, const Modes<S>& x, void* to, int64_t row) {
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) {
    if (!m.has(k)) continue;
    S* const at = static_cast<S*>(to) + (row * m.states + m.n(k)) * 2;
    at[0] = x.re[k];
    at[1] = x.im[k];
  }
}
template <class S, int kRank, class Mine>
HIPPODROME_HOST_DEVICE void load_parameters(const Problem& p, const Mine& m, Parameters<S, kRank>& to) {
  load(m, p.a, m.channel, to.a);
  load(m, p.b, m.channel, to.b);
  load(m, p.c, m.channel, to.c);
  HIPPODROME_UNROLL
  for (int r = 0; r < kRank; ++r) {
    load(m, p.q, m.channel * kRank + r, to.q[r]);
    load(m, p.w, m.channel * kRank + r, to.w[r]);
  }
}

// Re Σ v x, and Re Σ v* x, over the thread's states.
template <class S>
HIPPODROME_HOST_DEVICE S read_out(const Modes<S>& v, const Modes<S>& x) {
  S sum(0);
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) sum += v.re[k] * x.re[k] - v.im[k] * x.im[k];
  return sum;
}
template <class S>
HIPPODROME_HOST_DEVICE S scalar_product(const Modes<S>& v, const Modes<S>& x) {
  S sum(0);
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) sum += v.re[k] * x.re[k] + v.im[k] * x.im[k];
  return sum;
}
// x += factor v, and x += factor v*.
template <class S>
HIPPODROME_HOST_DEVICE void add(const Modes<S>& v, S factor, Modes<S>& x) {
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) {
    x.re[k] += v.re[k] * factor;
    x.im[k] += v.im[k] * factor;
  }
}
template <class S>
HIPPODROME_HOST_DEVICE void add_conjugate(const Modes<S>& v, S factor, Modes<S>& x) {
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) {
    x.re[k] += v.re[k] * factor;
    x.im[k] -= v.im[k] * factor;
  }
}
// x ← v x, and x ← v* x.
template <class S>
HIPPODROME_HOST_DEVICE void multiply(const Modes<S>& v, Modes<S>& x) {
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) {
    const S re = v.re[k] * x.re[k] - v.im[k] * x.im[k];
    x.im[k] = v.re[k] * x.im[k] + v.im[k] * x.re[k];
    x.re[k] = re;
  }
}
template <class S>
HIPPODROME_HOST_DEVICE void multiply_conjugate(const Modes<S>& v, Modes<S>& x) {
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) {
    const S re = v.re[k] * x.re[k] + v.im[k] * x.im[k];
    x.im[k] = v.re[k] * x.im[k] - v.im[k] * x.re[k];
    x.re[k] = re;
  }
}

// x ← a∘x + Σ_r w_r s_r + b u, with s[r * stride].
template <class S, int kRank>
HIPPODROME_HOST_DEVICE void advance(const Parameters<S, kRank>& m, S u, const S* s, int stride, Modes<S>& x) {
  multiply(m.a, x);
  add(m.b, u, x);
  HIPPODROME_UNROLL
  for (int r = 0; r < kRank; ++r) add(m.w[r], s[r * stride], x);
}

// ---- sums over a channel's threads ----

// Sums kCount values at once; every thread of a group gets its group's. Groups of more than a warp meet in shared
// memory, in two places in turns, so that one barrier a sum is enough.
template <class L, int kCount>
struct GroupSums {
  using S = typename L::S;
  static constexpr int kWarps = L::kThreads / 32, kWidth = L::kGroup < 32 ? L::kGroup : 32;
  static_assert(L::kGroup <= 32 || L::kGroup == L::kThreads, "a wide group is the whole block");
  static constexpr int64_t kShared = L::kGroup > 32 ? 2 * kCount* kWarps : 0;

  S* memory;
  int turn = 0;

  template <class Block>
  HIPPODROME_KERNEL void operator()(Block& block, typename Block::template PerThread<S> (&values)[kCount]) {
    HIPPODROME_UNROLL
    for (int j = 0; j < kCount; ++j) block.template sum_over_lanes<kWidth>(values[j]);
    if constexpr (L::kGroup > 32) {
      S* const place = memory + turn * kCount * kWarps;
      turn = 1 - turn;
      block.each([&](int thread) {
        if (thread % 32 != 0) return;
        HIPPODROME_UNROLL
        for (int j = 0; j < kCount; ++j) place[j * kWarps + thread / 32] = values[j][thread];
      });
      block.alone([&](int thread) {
        HIPPODROME_UNROLL
        for (int j = 0; j < kCount; ++j) {
          S total(0);
          HIPPODROME_UNROLL
          for (int warp = 0; warp < kWarps; ++warp) total += place[j * kWarps + warp];
          values[j][thread] = total;
        }
      });
    }
  }
};

// ---- tiles of tokens in shared memory ----

// [parts, kTile, kChannels] from tokens [begin, begin + count) of [B, L, parts, D]; zeros elsewhere.
template <class L>
HIPPODROME_HOST_DEVICE void load_tile(const Problem& p, const typename L::Place& at, const void* from, int parts,
                                      int64_t begin, int count, int thread, typename L::S* tile) {
  using S = typename L::S;
  for (int i = thread; i < parts * kTile * L::kChannels; i += L::kThreads) {
    const int channel = i % L::kChannels, token = i / L::kChannels % kTile, part = i / L::kChannels / kTile;
    const bool there = token < count && at.channel + channel < p.channels;
    const int64_t index = ((at.row * p.length + begin + token) * parts + part) * p.channels + at.channel + channel;
    tile[i] = there ? static_cast<const S*>(from)[index] : S(0);
  }
}
// The way back; zeros at padding.
template <class L>
HIPPODROME_HOST_DEVICE void store_tile(const Problem& p, const typename L::Place& at, const typename L::S* tile,
                                       const int* codes, int parts, int64_t begin, int count, int thread, void* to) {
  using S = typename L::S;
  for (int i = thread; i < parts * kTile * L::kChannels; i += L::kThreads) {
    const int channel = i % L::kChannels, token = i / L::kChannels % kTile, part = i / L::kChannels / kTile;
    if (token >= count || at.channel + channel >= p.channels) continue;
    const int64_t index = ((at.row * p.length + begin + token) * parts + part) * p.channels + at.channel + channel;
    static_cast<S*>(to)[index] = codes[token] == kPadding ? S(0) : tile[i];
  }
}
template <class L>
HIPPODROME_HOST_DEVICE void load_codes(const Problem& p, const typename L::Place& at, int64_t begin, int count,
                                       int thread, int* codes) {
  if (thread >= count) return;
  const int64_t position = p.positions != nullptr ? p.positions[at.row * p.length + begin + thread] : 1;
  codes[thread] = position < 0 ? kPadding : position == 0 ? kFresh : kContinues;
}
HIPPODROME_HOST_DEVICE int tokens_of_tile(const Problem& p, int64_t begin) {
  return static_cast<int>(p.length - begin < kTile ? p.length - begin : kTile);
}

}  // namespace hippodrome::dplr_scan_cuda
