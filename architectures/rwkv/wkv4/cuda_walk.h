// What the CUDA kernels of wkv4 share: a thread's place, the arithmetic of a step, and the walk over tokens with loads
// issued ahead.
#pragma once

#include <cstdint>
#include <limits>

#include "architectures/rwkv/wkv4/cuda.h"
#include "core/cuda/block.h"
#include "core/cuda/element.h"
#include "core/cuda/math.h"

namespace hippodrome::wkv4_cuda {

// ---- places ----

// One row, segment and channel.
struct Place {
  int64_t b, segment, c;
};
// Channels are innermost: neighbouring threads read neighbouring numbers.
HIPPODROME_HOST_DEVICE Place place_of(int64_t index, int64_t segments, int64_t channels) {
  const int64_t line = index / channels;
  return {line / segments, line % segments, index % channels};
}

// Entry `i` of the n of row b in an array [B, n, kParts, C]: its part 0; the next is C further.
template <int kParts>
HIPPODROME_HOST_DEVICE int64_t entry(int64_t b, int64_t n, int64_t i, int64_t channels, int64_t c) {
  return (b * n + i) * kParts * channels + c;
}

// One channel of a row: token t is at data[t * stride].
template <class T>
struct Column {
  const T* data;
  int64_t stride;
};
HIPPODROME_HOST_DEVICE int64_t column_start(const Wkv4Tokens& x, int64_t b, int64_t c) { return b * x.batch + c; }
template <class T>
HIPPODROME_HOST_DEVICE Column<T> column(const Wkv4Tokens& x, int64_t b, int64_t c) {
  return {static_cast<const T*>(x.data) + column_start(x, b, c), x.time};
}

// ---- arithmetic ----

template <class S>
struct State {
  S n, d, m;
};
template <class S>
HIPPODROME_HOST_DEVICE State<S> fresh_state() {
  return {S(0), S(0), S(kWkv4FreshMaximum)};
}
// `data` null: fresh.
template <class S>
HIPPODROME_HOST_DEVICE State<S> load_state(const void* data, int64_t at, int64_t channels) {
  if (data == nullptr) return fresh_state<S>();
  const S* const from = static_cast<const S*>(data) + at;
  return {from[0], from[channels], from[2 * channels]};
}
template <class S>
HIPPODROME_HOST_DEVICE void store_state(const State<S>& s, void* data, int64_t at, int64_t channels) {
  S* const to = static_cast<S*>(data) + at;
  to[0] = s.n;
  to[channels] = s.d;
  to[2 * channels] = s.m;
}

// e^{a - max(a, b)} and e^{b - max(a, b)}: one of them is 1, so a pair costs one exponential.
template <class S>
struct Weights {
  S smaller;
  bool right_wins;
  HIPPODROME_HOST_DEVICE S left() const { return right_wins ? smaller : S(1); }
  HIPPODROME_HOST_DEVICE S right() const { return right_wins ? S(1) : smaller; }
};
template <class S>
HIPPODROME_HOST_DEVICE Weights<S> weights(S a, S b) {
  const S gap = a - b;
  return {cuda::exp2_of(S(-cuda::kLog2E) * cuda::absolute_of(gap)), gap < S(0)};
}

// s, then a decay by e^decay, then a sum with `added`.
template <class S>
HIPPODROME_HOST_DEVICE State<S> combine(const State<S>& s, S decay, const State<S>& added) {
  const S decayed = s.m + decay;
  const Weights<S> f = weights(decayed, added.m);
  return {f.left() * s.n + f.right() * added.n, f.left() * s.d + f.right() * added.d, f.right_wins ? added.m : decayed};
}
// The decay of a segment in which a sequence starts: nothing passes.
template <class S>
inline constexpr S kCut = -std::numeric_limits<S>::infinity();

template <class S>
HIPPODROME_HOST_DEVICE State<S> next_state(const State<S>& s, S w, S k, S v) {
  return combine(s, w, State<S>{v, S(1), k});
}

// ---- walking ----

// Tokens whose numbers are loaded together, one group ahead of the arithmetic.
inline constexpr int kGroup = 8;
static_assert(kWkv4Chunk % kGroup == 0, "a chunk is whole groups");

// The number `distance` further. The compiler does not see how far: it would compute every address anew from the
// array's first, by a dozen instructions, where this takes two.
template <class T>
HIPPODROME_HOST_DEVICE T* step_by(T* from, int64_t distance) {
#ifdef __CUDA_ARCH__
  asm volatile("" : "+l"(distance));
#endif
  return from + distance;
}

// Tokens at and behind `end` get zeros, to be ignored.
template <class T, int kColumns>
HIPPODROME_KERNEL void load_group(const Column<T> (&columns)[kColumns], int64_t t, int64_t end,
                                  T (&to)[kColumns][kGroup]) {
  const bool whole = t + kGroup <= end;
  HIPPODROME_UNROLL
  for (int j = 0; j < kColumns; ++j) {
    const T* from = step_by(columns[j].data, t * columns[j].stride);
    if (whole) {
      HIPPODROME_UNROLL
      for (int i = 0; i < kGroup; ++i) {
        to[j][i] = *from;
        from = step_by(from, columns[j].stride);
      }
    } else {
      HIPPODROME_UNROLL
      for (int i = 0; i < kGroup; ++i) {
        to[j][i] = t + i < end ? *from : T{};
        from = step_by(from, columns[j].stride);
      }
    }
  }
}

template <class T, class S, int kColumns>
HIPPODROME_KERNEL void convert_group(const T (&from)[kColumns][kGroup], S (&to)[kColumns][kGroup]) {
  HIPPODROME_UNROLL
  for (int j = 0; j < kColumns; ++j) {
    HIPPODROME_UNROLL
    for (int i = 0; i < kGroup; ++i) to[j][i] = cuda::load(from[j][i]);
  }
}

// What the tokens of a group are, bit i for token t + i: `real` if it is no padding and before the end, `fresh` if it
// starts a sequence.
struct Kinds {
  unsigned real, fresh;
  HIPPODROME_HOST_DEVICE bool is_real(int i) const { return (real >> i & 1u) != 0; }
  HIPPODROME_HOST_DEVICE bool is_fresh(int i) const { return (fresh >> i & 1u) != 0; }
};
HIPPODROME_HOST_DEVICE Kinds kinds_of(const int64_t* positions, int64_t t, int64_t end) {
  Kinds kinds{0, 0};
  HIPPODROME_UNROLL
  for (int i = 0; i < kGroup; ++i) {
    if (t + i >= end) continue;
    const int64_t position = positions == nullptr ? 1 : positions[t + i];
    kinds.real |= static_cast<unsigned>(position >= 0) << i;
    kinds.fresh |= static_cast<unsigned>(position == 0) << i;
  }
  return kinds;
}
// Groups of real tokens of one run take code without conditions, in which steps overlap.
HIPPODROME_HOST_DEVICE bool is_plain(const int64_t* positions, int64_t t, int64_t end) {
  return positions == nullptr && t + kGroup <= end;
}

// Tokens [begin, end) of a row in their order: before_group(t) ahead of each group, then token(t, numbers, fresh) or
// padding(t) for each token; `numbers` has one of each column.
template <class T, int kColumns, class BeforeGroup, class Token, class Padding>
HIPPODROME_KERNEL void walk(const Column<T> (&columns)[kColumns], const int64_t* positions, int64_t begin, int64_t end,
                            const BeforeGroup& before_group, const Token& token, const Padding& padding) {
  using S = cuda::ScalarOf<T>;
  if (begin >= end) return;
  T ahead[kColumns][kGroup];
  S now[kColumns][kGroup];
  load_group(columns, begin, end, ahead);
  for (int64_t t = begin; t < end; t += kGroup) {
    convert_group(ahead, now);
    if (t + kGroup < end) load_group(columns, t + kGroup, end, ahead);
    before_group(t);
    const bool plain = is_plain(positions, t, end);
    const Kinds kinds = plain ? Kinds{~0u, 0} : kinds_of(positions, t, end);
    const auto visit = [&](int i, bool fresh) {
      S numbers[kColumns];
      HIPPODROME_UNROLL
      for (int j = 0; j < kColumns; ++j) numbers[j] = now[j][i];
      token(t + i, numbers, fresh);
    };
    if (plain) {
      HIPPODROME_UNROLL
      for (int i = 0; i < kGroup; ++i) visit(i, false);
    } else {
      HIPPODROME_UNROLL
      for (int i = 0; i < kGroup; ++i) {
        if (kinds.is_real(i)) {
          visit(i, kinds.is_fresh(i));
        } else if (t + i < end) {
          padding(t + i);
        }
      }
    }
  }
}

}  // namespace hippodrome::wkv4_cuda
