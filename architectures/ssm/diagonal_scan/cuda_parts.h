// What the CUDA kernels of the diagonal scan are made of. A block takes 32 channels of a row, one a lane, and its warps
// share the states out, kModes to a thread, so that reads and writes of tokens are coalesced, a thread's states and
// parameters stay in registers and nothing is exchanged between lanes. A tile of tokens is staged in shared memory;
// what warps add to a token's sum meets there. Limited by multiply-adds: 8 for each state and token in forward.
#pragma once

#include <cstdint>

#include "architectures/ssm/diagonal_scan/cuda.h"
#include "core/cuda/block.h"

namespace hippodrome::diagonal_scan_cuda {

using cuda::ceil_div;
using cuda::load;
using cuda::ScalarOf;
using cuda::shared_size;
using cuda::store;
using Problem = DiagonalScanProblem;

inline constexpr int kLanes = static_cast<int>(kDiagonalScanCudaChannels), kModes = 4, kTile = 32;
inline constexpr int kPadding = -1, kFresh = 0, kContinues = 1;  // codes of positions

// What a block works on.
struct Place {
  int64_t row, segment, channel, begin, end;  // the first channel; tokens [begin, end)
};
HIPPODROME_HOST_DEVICE int64_t places(const Problem& p) {
  return p.batch * p.segments.count * ceil_div(p.channels, kLanes);
}
HIPPODROME_HOST_DEVICE Place place(const Problem& p, int64_t block) {
  const int64_t groups = ceil_div(p.channels, kLanes), rest = block / groups;
  Place at;
  at.channel = block % groups * kLanes;
  at.segment = rest % p.segments.count;
  at.row = rest / p.segments.count;
  at.begin = at.segment * p.segments.length;
  at.end = at.begin + p.segments.length < p.length ? at.begin + p.segments.length : p.length;
  return at;
}

// Of number `part` of `parts` of a state in a tensor [B, segments, parts, N, D] or, with N before parts, of
// [B, segments, N, parts, D].
HIPPODROME_HOST_DEVICE int64_t sum_index(const Problem& p, int64_t row, int64_t segment, int64_t part, int64_t n,
                                         int64_t channel) {
  return (((row * p.segments.count + segment) * 6 + part) * p.states + n) * p.channels + channel;
}
HIPPODROME_HOST_DEVICE int64_t carry_index(const Problem& p, int64_t row, int64_t segment, int64_t n, int64_t parts,
                                           int64_t channel) {
  return ((row * p.segments.count + segment) * p.states + n) * parts * p.channels + channel;
}
HIPPODROME_HOST_DEVICE int64_t state_index(const Problem& p, int64_t row, int64_t channel, int64_t n) {
  return ((row * p.channels + channel) * p.states + n) * 2;
}

// ---- what a thread keeps ----

template <class S>
struct Modes {  // complex numbers
  S re[kModes], im[kModes];
};

template <class S>
struct Parameters {
  Modes<S> a, b, c;
};

// The thread's channel and first state, and which of its states there are.
struct Mine {
  int64_t channel, state;
  bool inside;
};
HIPPODROME_HOST_DEVICE Mine mine(const Problem& p, const Place& at, int thread) {
  const int64_t channel = at.channel + thread % kLanes;
  return {channel, p.first_state + thread / kLanes * kModes, channel < p.channels};
}
HIPPODROME_HOST_DEVICE bool has(const Problem& p, const Mine& m, int k) { return m.inside && m.state + k < p.states; }

template <class S>
HIPPODROME_HOST_DEVICE void set_zero(Modes<S>& x) {
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) x.re[k] = x.im[k] = S(0);
}

// Zeros for states that there are not, so that they stay zero and add nothing.
template <class S>
HIPPODROME_HOST_DEVICE void load_parameters(const Problem& p, const Mine& m, Parameters<S>& to) {
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) {
    const int64_t at = m.channel * p.states + m.state + k;
    const auto value = [&](int i) { return has(p, m, k) ? static_cast<const S*>(p.parameters[i])[at] : S(0); };
    to.a.re[k] = value(0), to.a.im[k] = value(1);
    to.b.re[k] = value(2), to.b.im[k] = value(3);
    to.c.re[k] = value(4), to.c.im[k] = value(5);
  }
}

// From [B, D, N, 2], or zeros where it is null.
template <class S>
HIPPODROME_HOST_DEVICE void load_state(const Problem& p, const Mine& m, int64_t row, const void* from, Modes<S>& x) {
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) {
    const bool there = from != nullptr && has(p, m, k);
    const S* const at = static_cast<const S*>(from) + (there ? state_index(p, row, m.channel, m.state + k) : 0);
    x.re[k] = there ? at[0] : S(0);
    x.im[k] = there ? at[1] : S(0);
  }
}
template <class S>
HIPPODROME_HOST_DEVICE void store_state(const Problem& p, const Mine& m, int64_t row, const Modes<S>& x, void* to) {
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) {
    if (!has(p, m, k)) continue;
    S* const at = static_cast<S*>(to) + state_index(p, row, m.channel, m.state + k);
    at[0] = x.re[k];
    at[1] = x.im[k];
  }
}

// Complex number `which` of the `parts / 2` that [B, segments, N, parts, D] holds of a state.
template <class S>
HIPPODROME_HOST_DEVICE void load_carry(const Problem& p, const Mine& m, const Place& at, const void* from, int parts,
                                       int which, Modes<S>& x) {
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) {
    const bool there = has(p, m, k);
    const int64_t i = there ? carry_index(p, at.row, at.segment, m.state + k, parts, m.channel) : 0;
    x.re[k] = there ? static_cast<const S*>(from)[i + 2 * which * p.channels] : S(0);
    x.im[k] = there ? static_cast<const S*>(from)[i + (2 * which + 1) * p.channels] : S(0);
  }
}
template <class S>
HIPPODROME_HOST_DEVICE void store_carry(const Problem& p, const Mine& m, const Place& at, const Modes<S>& x, int parts,
                                        int which, void* to) {
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) {
    if (!has(p, m, k)) continue;
    const int64_t i = carry_index(p, at.row, at.segment, m.state + k, parts, m.channel);
    static_cast<S*>(to)[i + 2 * which * p.channels] = x.re[k];
    static_cast<S*>(to)[i + (2 * which + 1) * p.channels] = x.im[k];
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
HIPPODROME_HOST_DEVICE void load_codes(const Problem& p, const Place& at, int64_t begin, int count, int thread,
                                       int* codes) {
  if (thread >= count) return;
  const int64_t position = p.positions != nullptr ? p.positions[at.row * p.length + begin + thread] : 1;
  codes[thread] = position < 0 ? kPadding : position == 0 ? kFresh : kContinues;
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

HIPPODROME_HOST_DEVICE int tokens_of_tile(const Place& at, int64_t begin) {
  return static_cast<int>(at.end - begin < kTile ? at.end - begin : kTile);
}

// ---- the recurrence ----

// x ← a x + b u
template <class S>
HIPPODROME_HOST_DEVICE void advance(const Parameters<S>& m, S u, Modes<S>& x) {
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) {
    const S re = m.a.re[k] * x.re[k] + (m.b.re[k] * u - m.a.im[k] * x.im[k]);
    x.im[k] = m.a.re[k] * x.im[k] + (m.b.im[k] * u + m.a.im[k] * x.re[k]);
    x.re[k] = re;
  }
}
// slope ← a slope + x, where x is the state before the token: the slope is ∂x/∂a.
template <class S>
HIPPODROME_HOST_DEVICE void advance_slope(const Parameters<S>& m, const Modes<S>& x, Modes<S>& slope) {
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) {
    const S re = m.a.re[k] * slope.re[k] + (x.re[k] - m.a.im[k] * slope.im[k]);
    slope.im[k] = m.a.re[k] * slope.im[k] + (x.im[k] + m.a.im[k] * slope.re[k]);
    slope.re[k] = re;
  }
}
// λ ← λ + 2 c* ∂y
template <class S>
HIPPODROME_HOST_DEVICE void enter(const Parameters<S>& m, S twice_grad_y, Modes<S>& lambda) {
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) {
    lambda.re[k] += m.c.re[k] * twice_grad_y;
    lambda.im[k] -= m.c.im[k] * twice_grad_y;
  }
}
// λ ← a* λ
template <class S>
HIPPODROME_HOST_DEVICE void retreat(const Parameters<S>& m, Modes<S>& lambda) {
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) {
    const S re = m.a.re[k] * lambda.re[k] + m.a.im[k] * lambda.im[k];
    lambda.im[k] = m.a.re[k] * lambda.im[k] - m.a.im[k] * lambda.re[k];
    lambda.re[k] = re;
  }
}

}  // namespace hippodrome::diagonal_scan_cuda
