// What the CUDA kernels of the diagonal-plus-low-rank scan are made of. A channel's states are shared out to a group of
// threads, four to each, and stay in their registers with the parameters; tiles of tokens pass through shared memory.
// Every token needs sums over all states before the next one can begin, so the time that these take, one token after
// another, is the limit where rows and channels are few.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "architectures/ssm/dplr_scan/cuda.h"
#include "architectures/ssm/modes.h"
#include "core/cuda/block.h"

namespace hippodrome::dplr_scan_cuda {

using namespace mode_scan;  // NOLINT: these are kernels of one
using cuda::shared_size;
using Problem = DplrScanProblem;

// How a block is laid out: kGroup threads for each of its channels, which are neighbours.
template <class Scalar, int kRankOf, int kGroupOf, int kThreadsOf>
struct Layout {
  using S = Scalar;
  static constexpr int kRank = kRankOf, kGroup = kGroupOf, kThreads = kThreadsOf, kChannels = kThreads / kGroup;

  static HIPPODROME_HOST_DEVICE int64_t places(const Problem& p) { return mode_scan::places(p, kChannels); }
  static HIPPODROME_HOST_DEVICE Place place(const Problem& p, int64_t block) {
    return mode_scan::place(p, block, kChannels);
  }
  using Mine = mode_scan::Mine<kGroup>;
  static HIPPODROME_HOST_DEVICE Mine mine(const Problem& p, const Place& at, int thread) {
    const int64_t channel = at.channel + thread / kGroup;
    return {channel, thread % kGroup, p.states, channel < p.channels};
  }
};

template <class S, int kRank>
struct Parameters {
  Modes<S> a, b, c, q[kRank], w[kRank];
};

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

// x ← a∘x + Σ_r w_r s_r + b u, with s[r * stride]; without an input, u = nullptr, not the last.
template <class S, int kRank, class Input>
HIPPODROME_HOST_DEVICE void advance(const Parameters<S, kRank>& m, Input u, const S* s, int stride, Modes<S>& x) {
  multiply(m.a, x);
  if constexpr (std::is_same_v<Input, S>) add(m.b, u, x);
  HIPPODROME_UNROLL
  for (int r = 0; r < kRank; ++r) add(m.w[r], s[r * stride], x);
}

// λ ← a*∘λ + 2 Σ_r q_r* σ_r.
template <class S, int kRank>
HIPPODROME_HOST_DEVICE void retreat(const Parameters<S, kRank>& m, const S (&sigma)[kRank], Modes<S>& lambda) {
  multiply_conjugate(m.a, lambda);
  HIPPODROME_UNROLL
  for (int r = 0; r < kRank; ++r) add_conjugate(m.q[r], 2 * sigma[r], lambda);
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
HIPPODROME_HOST_DEVICE void load_tile(const Problem& p, const Place& at, const void* from, int parts, int64_t begin,
                                      int count, int thread, typename L::S* tile) {
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
HIPPODROME_HOST_DEVICE void store_tile(const Problem& p, const Place& at, const typename L::S* tile, const int* codes,
                                       int parts, int64_t begin, int count, int thread, void* to) {
  using S = typename L::S;
  for (int i = thread; i < parts * kTile * L::kChannels; i += L::kThreads) {
    const int channel = i % L::kChannels, token = i / L::kChannels % kTile, part = i / L::kChannels / kTile;
    if (token >= count || at.channel + channel >= p.channels) continue;
    const int64_t index = ((at.row * p.length + begin + token) * parts + part) * p.channels + at.channel + channel;
    static_cast<S*>(to)[index] = codes[token] == kPadding ? S(0) : tile[i];
  }
}

}  // namespace hippodrome::dplr_scan_cuda
