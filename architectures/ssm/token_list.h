// Rows of tokens without their padding, for CUDA kernels whose outputs look back over a window of tokens: a row's
// tokens that are there are numbered 0 .. count - 1, so that "the m-th token before" is a subtraction, however much
// padding lies between. Listed once per call by a kernel of its own; without positions nothing needs to be listed.
#pragma once

#include <cstdint>

#include "core/cuda/block.h"

namespace hippodrome::cuda {

// An entry is place * 2^13 + reach. The reach is the number of tokens before it that belong to the same sequence, those
// of the initial state included, of which there is no end: anything from kFullReach on counts as all.
inline constexpr int kReachBits = 13;
inline constexpr int64_t kFullReach = (int64_t{1} << kReachBits) - 1;

struct TokenList {
  int64_t batch = 0, length = 0;
  const int64_t* positions = nullptr;  // [B, L] or null
  // Written by ListTokens, and null where it need not run.
  int64_t* entries = nullptr;  // [B, L], of which `count` are set
  int64_t* counts = nullptr;   // [B]
};
// A single token is its own list.
inline bool must_list(const TokenList& list) { return list.positions != nullptr && list.length > 1; }

// The listed tokens of row b.
struct TokenRow {
  HIPPODROME_HOST_DEVICE TokenRow(const TokenList& list, int64_t b) : count(list.length) {
    if (list.positions == nullptr) return;
    if (list.length > 1) {
      entries = list.entries + b * list.length;
      count = list.counts[b];
    } else if (list.length == 1) {
      count = list.positions[b] < 0 ? 0 : 1;
      if (list.positions[b] == 0) plain_reach = 0;
    }
  }
  // Where token i of the list stands in the row.
  HIPPODROME_HOST_DEVICE int64_t place(int64_t i) const { return entries == nullptr ? i : entries[i] >> kReachBits; }
  HIPPODROME_HOST_DEVICE int64_t reach(int64_t i) const {
    return entries == nullptr ? plain_reach : entries[i] & kFullReach;
  }
  // What a token after the last one would reach.
  HIPPODROME_HOST_DEVICE int64_t reach_from_end() const { return count == 0 ? kFullReach : reach(count - 1) + 1; }

  const int64_t* entries = nullptr;
  int64_t count = 0, plain_reach = kFullReach;
};

// A block per row. Each thread takes a run of its tokens: it counts those that are there, learns how many come before
// its own and where their sequence started, and lists them.
struct ListTokens {
  static constexpr int kThreads = 256;
  static int64_t blocks(const TokenList& p) { return p.batch; }
  static int64_t shared_bytes(const TokenList&) { return 2 * shared_size<int64_t>(kThreads); }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const TokenList& p) {
    int64_t* const counts = block.template shared<int64_t>(kThreads);
    int64_t* const starts = block.template shared<int64_t>(kThreads);  // the last start among a thread's tokens, or -1
    const int64_t* const positions = p.positions + block.index() * p.length;
    const int64_t run = ceil_div(p.length, kThreads);
    const auto end_of = [&](int thread) { return (thread + 1) * run < p.length ? (thread + 1) * run : p.length; };

    block.each([&](int thread) {
      int64_t count = 0, start = -1;
      for (int64_t t = thread * run; t < end_of(thread); ++t) {
        if (positions[t] == 0) start = count;
        if (positions[t] >= 0) ++count;
      }
      counts[thread] = count, starts[thread] = start;
    });
    block.alone([&](int thread) {
      int64_t i = 0, start = -kFullReach;
      for (int before = 0; before < thread; ++before) {
        if (starts[before] >= 0) start = i + starts[before];
        i += counts[before];
      }
      int64_t* const entries = p.entries + block.index() * p.length;
      for (int64_t t = thread * run; t < end_of(thread); ++t) {
        if (positions[t] < 0) continue;
        if (positions[t] == 0) start = i;
        const int64_t reach = i - start < kFullReach ? i - start : kFullReach;
        entries[i++] = (t << kReachBits) + reach;
      }
      if (thread == kThreads - 1) p.counts[block.index()] = i;
    });
  }
};

}  // namespace hippodrome::cuda
