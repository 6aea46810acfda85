// What the CUDA kernels of the diagonal scan are made of. A block takes 32 channels of a row, one a lane, and its warps
// share the states out, kModes to a thread, so that reads and writes of tokens are coalesced, a thread's states and
// parameters stay in registers and nothing is exchanged between lanes. A tile of tokens is staged in shared memory;
// what warps add to a token's sum meets there. Limited by multiply-adds: 8 for each state and token in forward.
#pragma once

#include <cstdint>

#include "architectures/ssm/diagonal_scan/cuda.h"
#include "architectures/ssm/modes.h"
#include "core/cuda/block.h"

namespace hippodrome::diagonal_scan_cuda {

using namespace mode_scan;  // NOLINT: these are kernels of one
using cuda::load;
using cuda::ScalarOf;
using cuda::shared_size;
using cuda::store;
using mode_scan::load;
using mode_scan::store;
using Problem = DiagonalScanProblem;

inline constexpr int kLanes = static_cast<int>(kDiagonalScanCudaChannels);

HIPPODROME_HOST_DEVICE int64_t places(const Problem& p) { return mode_scan::places(p, kLanes); }
HIPPODROME_HOST_DEVICE Place place(const Problem& p, int64_t block) { return mode_scan::place(p, block, kLanes); }

using Mine = mode_scan::Mine<1>;
HIPPODROME_HOST_DEVICE Mine mine(const Problem& p, const Place& at, int thread) {
  const int64_t channel = at.channel + thread % kLanes;
  return {channel, p.first_state + thread / kLanes * kModes, p.states, channel < p.channels};
}

// In [B, segments, parts, N, D].
HIPPODROME_HOST_DEVICE int64_t sum_index(const Problem& p, int64_t row, int64_t segment, int64_t part, int64_t n,
                                         int64_t channel) {
  return (((row * p.segments.count + segment) * 6 + part) * p.states + n) * p.channels + channel;
}

template <class S>
struct Parameters {
  Modes<S> a, b, c;
};
// Zeros for states that there are not, so that they stay zero and add nothing.
template <class S>
HIPPODROME_HOST_DEVICE void load_parameters(const Problem& p, const Mine& m, Parameters<S>& to) {
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) {
    const int64_t at = m.channel * p.states + m.n(k);
    const auto value = [&](int i) { return m.has(k) ? static_cast<const S*>(p.parameters[i])[at] : S(0); };
    to.a.re[k] = value(0), to.a.im[k] = value(1);
    to.b.re[k] = value(2), to.b.im[k] = value(3);
    to.c.re[k] = value(4), to.c.im[k] = value(5);
  }
}

// ---- a tile of tokens in shared memory ----

// [kTile, 32] from tokens [begin, begin + count) of [B, L, D]; zeros elsewhere.
template <class T, int kThreads>
HIPPODROME_HOST_DEVICE void load_tile(const Problem& p, const DiagonalScanRows& from, const Place& at, int64_t begin,
                                      int count, int thread, ScalarOf<T>* tile) {
  constexpr int kAtOnce = 4;  // loads in flight; all sixteen of a thread of two warps take too many registers
  for (int first = thread; first < kTile * kLanes; first += kAtOnce * kThreads) {
    HIPPODROME_UNROLL
    for (int i = 0; i < kAtOnce; ++i) {
      const int entry = first + i * kThreads, token = entry / kLanes, lane = entry % kLanes;
      const bool there = token < count && at.channel + lane < p.channels;
      const int64_t index = there ? at.row * from.batch + (begin + token) * from.time + at.channel + lane : 0;
      tile[entry] = there ? load(static_cast<const T*>(from.data)[index]) : ScalarOf<T>(0);
    }
  }
}
// to [B, L, D] = factor Σ over warps of sums [kWarps, kTile, 32], added to what the launch before wrote when it had
// other states; zero at padding.
template <class T, int kWarps>
HIPPODROME_HOST_DEVICE void store_tile(const Problem& p, const Place& at, int64_t begin, int count, int thread,
                                       const int* codes, const ScalarOf<T>* sums, ScalarOf<T> factor, void* to) {
  using S = ScalarOf<T>;
  HIPPODROME_UNROLL
  for (int i = 0; i < kTile / kWarps; ++i) {
    const int entry = i * kWarps * kLanes + thread, token = entry / kLanes, lane = entry % kLanes;
    if (token >= count || at.channel + lane >= p.channels) continue;
    T* const target = static_cast<T*>(to) + (at.row * p.length + begin + token) * p.channels + at.channel + lane;
    S sum(0);
    if (codes[token] != kPadding) {
      HIPPODROME_UNROLL
      for (int warp = 0; warp < kWarps; ++warp) sum += sums[warp * kTile * kLanes + entry];
      sum *= factor;
      if (p.first_state > 0) sum += load(*target);
    }
    store(sum, target);
  }
}

// x ← a x + b u
template <class S>
HIPPODROME_HOST_DEVICE void advance(const Parameters<S>& m, S u, Modes<S>& x) {
  multiply_add(m.a, product(m.b, u), x);
}

}  // namespace hippodrome::diagonal_scan_cuda
