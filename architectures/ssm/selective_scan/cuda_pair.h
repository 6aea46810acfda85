// How a thread of the fast kernels of the selective scan works: on two neighbouring channels and half of the states of
// a turn, so that what it reads of B and C serves both channels. (One channel and all states would read twice as much
// of shared memory, which then would limit the kernel.) Warps do not mix halves, so that all their threads read the
// same B and C. What comes and goes a step at a time, the thread moves for its two channels at half of a tile's steps.
//
// Rows are fetched a tile ahead into registers, in their own type, and put into shared memory as numbers when their
// tile begins, so that few blocks on a multiprocessor do not wait for memory either.
#pragma once

#include "architectures/ssm/selective_scan/cuda_block.h"

namespace hippodrome::s6 {

// Steps of a tile; divides kChunk, so that a checkpoint falls on a tile's edge.
template <class S>
inline constexpr int kPairTile = 64 / static_cast<int>(sizeof(S));
template <class S>
inline constexpr int kHalfStates = kCudaStates<S> / 2;

HIPPODROME_HOST_DEVICE int pair_of(int thread) { return thread % (kCudaChannels / 2); }
HIPPODROME_HOST_DEVICE int half_of(int thread) { return thread / (kCudaChannels / 2); }
// The thread's channel, or the last there is: a thread without one works on that, and writes nothing.
HIPPODROME_HOST_DEVICE int64_t near_channel(const CudaPlace& place, int thread) {
  return place.channel(thread < place.count ? thread : place.count - 1);
}

template <class S>
struct alignas(2 * sizeof(S)) Two {
  S value[2];
};
template <class S>
struct alignas(2 * sizeof(S)) StepInput {
  S delta, u;
};
template <class S>
struct alignas(16) PairInput {
  StepInput<S> of[2];
};
template <class S>
struct alignas(16) HalfStates {
  S value[kHalfStates<S>];
};
template <class S>
struct PairStates {
  S value[2][kHalfStates<S>];  // by channel
};

template <class S>
HIPPODROME_HOST_DEVICE PairInput<S> read_pair(const StepInput<S>* row, int pair) {
  return reinterpret_cast<const PairInput<S>*>(row)[pair];
}
template <class S>
HIPPODROME_HOST_DEVICE HalfStates<S> read_half(const S* row, int half) {
  return reinterpret_cast<const HalfStates<S>*>(row)[half];
}

// h <- abar h + delta u B of both channels; sum_n C h where C is given.
template <class S>
HIPPODROME_HOST_DEVICE Two<S> move_pair(const PairInput<S>& input, const PairStates<S>& A, const HalfStates<S>& B,
                                        PairStates<S>& h, const HalfStates<S>* C) {
  Two<S> sum{{S(0), S(0)}};
  const S inflow[2] = {input.of[0].delta * input.of[0].u, input.of[1].delta * input.of[1].u};
  HIPPODROME_UNROLL
  for (int n = 0; n < kHalfStates<S>; ++n) {
    HIPPODROME_UNROLL
    for (int c = 0; c < 2; ++c) {
      S& state = h.value[c][n];
      state = cuda::exp2_of(input.of[c].delta * A.value[c][n]) * state + inflow[c] * B.value[n];
      if (C != nullptr) sum.value[c] += C->value[n] * state;
    }
  }
  return sum;
}

// ---- rows on their way from global memory, and back ----

// Of a tile's steps, those whose rows a thread moves: first_row ... first_row + kTile / 2.
template <int kTile>
HIPPODROME_HOST_DEVICE int first_row(int thread) {
  return half_of(thread) * (kTile / 2);
}
// Two neighbouring elements as they come from memory. Those of 16 bits stay one word until they are used: to take it
// apart would be to wait for it.
template <class T>
struct alignas(2 * sizeof(T)) Fetched {
  T value[2];

  HIPPODROME_HOST_DEVICE void set(T one, T two) { value[0] = one, value[1] = two; }
  HIPPODROME_HOST_DEVICE T get(int c) const { return value[c]; }
};
template <class T>
struct FetchedWord {
  uint32_t bits;

  HIPPODROME_HOST_DEVICE void set(T one, T two) { bits = one.bits | static_cast<uint32_t>(two.bits) << 16; }
  HIPPODROME_HOST_DEVICE T get(int c) const { return {static_cast<uint16_t>(c == 0 ? bits : bits >> 16)}; }
};
template <>
struct Fetched<cuda::BFloat16> : FetchedWord<cuda::BFloat16> {};
template <>
struct Fetched<cuda::Half> : FetchedWord<cuda::Half> {};

template <class T, int kTile>
struct FetchedColumn {
  Fetched<T> delta[kTile / 2], u[kTile / 2];
};
// A thread's share of the tile [kTile][kStates] of B or C.
template <class T, int kTile>
struct FetchedStates {
  static constexpr int kStates = kCudaStates<ScalarOf<T>>,
                       kCount = (kTile * kStates + kCudaChannels - 1) / kCudaChannels;
  T value[kCount];
};

// Whether rows `stride` apart from `first` on may be read in twos.
template <class T>
HIPPODROME_HOST_DEVICE bool in_twos(const T* first, int64_t stride) {
  return ((reinterpret_cast<uint64_t>(first) | static_cast<uint64_t>(stride) * sizeof(T)) & (2 * sizeof(T) - 1)) == 0;
}
// The thread's rows of a tile of `steps` steps from t on; behind the last, that again.
template <class T, int kRows>
HIPPODROME_HOST_DEVICE void fetch_rows(const Strided<const void>& x, const CudaPlace& place, int64_t t, int steps,
                                       int thread, Fetched<T> (&rows)[kRows]) {
  const int first = first_row<2 * kRows>(thread), channel = 2 * pair_of(thread);
  const int64_t from = t + (first < steps ? first : steps - 1);
  const T* at = static_cast<const T*>(x.data) + offset(x, place.batch, from, near_channel(place, channel));
  if (first + kRows <= steps && channel + 1 < place.count && in_twos(at, x.time)) {
    HIPPODROME_UNROLL
    for (int i = 0; i < kRows; ++i, at += x.time) rows[i] = *reinterpret_cast<const Fetched<T>*>(at);
  } else {
    const int second = channel + 1 < place.count ? 1 : 0;
    HIPPODROME_UNROLL
    for (int i = 0; i < kRows; ++i) {
      rows[i].set(at[0], at[second]);
      if (first + i + 1 < steps) at += x.time;
    }
  }
}
// Back, of channels and steps that exist: rows of [B, L, D] from step t on.
template <class T, int kRows>
HIPPODROME_HOST_DEVICE void store_rows(const Two<ScalarOf<T>> (&rows)[kRows], const CudaScan& p, const CudaPlace& place,
                                       int64_t t, int steps, int thread, T* base) {
  const int first = first_row<2 * kRows>(thread), channel = 2 * pair_of(thread);
  T* to = base + (place.batch * p.length + t + first) * p.channels + place.channel(channel);
  if (first + kRows <= steps && channel + 1 < place.count && in_twos(to, p.channels)) {
    HIPPODROME_UNROLL
    for (int i = 0; i < kRows; ++i, to += p.channels) {
      T one, two;
      store(rows[i].value[0], &one);
      store(rows[i].value[1], &two);
      reinterpret_cast<Fetched<T>*>(to)->set(one, two);
    }
  } else {
    HIPPODROME_UNROLL
    for (int i = 0; i < kRows; ++i, to += p.channels) {
      if (first + i >= steps) break;
      if (channel < place.count) store(rows[i].value[0], to);
      if (channel + 1 < place.count) store(rows[i].value[1], to + 1);
    }
  }
}
// Whether channel c of the thread's two exists, and step i of its rows, which is not padding.
template <bool kPositions, int kRows>
HIPPODROME_HOST_DEVICE bool is_real(const CudaPlace& place, int steps, const int* kinds, int thread, int i, int c) {
  const int step = first_row<2 * kRows>(thread) + i;
  return step < steps && 2 * pair_of(thread) + c < place.count && !(kPositions && kinds[step] == kPadding);
}
// Whether that is to be asked: not in the middle of a tensor without positions.
template <bool kPositions>
HIPPODROME_HOST_DEVICE bool has_gaps(const CudaPlace& place, int steps, int tile) {
  return kPositions || steps < tile || place.count < kCudaChannels;
}
template <class S>
HIPPODROME_HOST_DEVICE Two<S> read_two_or_zero(const void* x, const CudaPlace& place, int thread) {
  const int channel = 2 * pair_of(thread);
  return {{read_or_zero<S>(x, near_channel(place, channel)), read_or_zero<S>(x, near_channel(place, channel + 1))}};
}

// Zeros where there is nothing.
template <class T, int kTile>
HIPPODROME_HOST_DEVICE void fetch_states(const StridedGroups<void>& from, const CudaPlace& place, int64_t begin,
                                         int steps, int s0, int64_t states, int thread, FetchedStates<T, kTile>& to) {
  constexpr int kStates = FetchedStates<T, kTile>::kStates, kRows = kCudaChannels / kStates;
  const int n = s0 + thread % kStates, first = thread / kStates;
  const T* at = static_cast<const T*>(from.data) + place.batch * from.batch + place.group * from.group +
                (begin + first) * from.time + n;
  HIPPODROME_UNROLL
  for (int k = 0; k < FetchedStates<T, kTile>::kCount; ++k, at += kRows * from.time) {
    to.value[k] = T{};
    if (first + k * kRows < steps && n < states) to.value[k] = *at;
  }
}
// To shared memory as numbers; zeros in padding.
template <bool kPositions, class T, int kTile, class S>
HIPPODROME_HOST_DEVICE void put_states(const FetchedStates<T, kTile>& from, int steps, const int* kinds, int thread,
                                       S* tile) {
  constexpr int kStates = FetchedStates<T, kTile>::kStates, kRows = kCudaChannels / kStates;
  HIPPODROME_UNROLL
  for (int k = 0; k < FetchedStates<T, kTile>::kCount; ++k) {
    const int i = thread / kStates + k * kRows;
    const bool padding = kPositions && i < steps && kinds[i] == kPadding;
    if (i < kTile) tile[k * kCudaChannels + thread] = padding ? S(0) : load(from.value[k]);
  }
}
// The inputs of the thread's rows, u through the gate of z where it is gated. Those of padding and of what does not
// exist are zero, so that they change no state.
template <bool kPositions, class T, int kTile, class S, int kRows>
HIPPODROME_HOST_DEVICE void put_column(const CudaScan& x, const CudaPlace& place, const FetchedColumn<T, kTile>& from,
                                       const Fetched<T> (&z)[kRows], bool gated, const Two<S>& bias, int steps,
                                       const int* kinds, int thread, StepInput<S>* inputs) {
  PairInput<S> input[kRows];
  const auto for_all = [&](const auto& f) {
    HIPPODROME_UNROLL
    for (int i = 0; i < kRows; ++i) {
      HIPPODROME_UNROLL
      for (int c = 0; c < 2; ++c) f(i, c, input[i].of[c]);
    }
  };
  for_all([&](int i, int c, StepInput<S>& to) {
    to = {load(from.delta[i].get(c)) + bias.value[c], load(from.u[i].get(c))};
  });
  if (x.delta_softplus) for_all([&](int, int, StepInput<S>& to) { to.delta = cuda::softplus(to.delta); });
  if (gated) for_all([&](int i, int c, StepInput<S>& to) { to.u *= cuda::silu(load(z[i].get(c))); });
  if (has_gaps<kPositions>(place, steps, kTile)) {
    for_all([&](int i, int c, StepInput<S>& to) {
      if (!is_real<kPositions, kRows>(place, steps, kinds, thread, i, c)) to = {S(0), S(0)};
    });
  }
  const int first = first_row<kTile>(thread);
  HIPPODROME_UNROLL
  for (int i = 0; i < kRows; ++i) {
    reinterpret_cast<PairInput<S>*>(inputs + (first + i) * kCudaChannels)[pair_of(thread)] = input[i];
  }
}

// ---- states in global memory ----

// The thread's states of a turn that begins at state s0: state n of channel d is at from[first + n * stride + d *
// channel_stride], n counted from s0. Zeros for states and channels that there are none of, and without `from`.
template <class S>
HIPPODROME_HOST_DEVICE void load_pair(const S* from, int64_t first, int64_t stride, int64_t channel_stride,
                                      int64_t count, const CudaPlace& place, int thread, PairStates<S>& h) {
  HIPPODROME_UNROLL
  for (int c = 0; c < 2; ++c) {
    const int64_t d = near_channel(place, 2 * pair_of(thread) + c);
    const bool exists = from != nullptr && 2 * pair_of(thread) + c < place.count;
    HIPPODROME_UNROLL
    for (int k = 0; k < kHalfStates<S>; ++k) {
      const int n = half_of(thread) * kHalfStates<S> + k;
      h.value[c][k] = exists && n < count ? from[first + n * stride + d * channel_stride] : S(0);
    }
  }
}
template <class S>
HIPPODROME_HOST_DEVICE void store_pair(const PairStates<S>& h, int64_t first, int64_t stride, int64_t channel_stride,
                                       int64_t count, const CudaPlace& place, int thread, S* to) {
  HIPPODROME_UNROLL
  for (int c = 0; c < 2; ++c) {
    const int channel = 2 * pair_of(thread) + c;
    if (channel >= place.count) continue;
    HIPPODROME_UNROLL
    for (int k = 0; k < kHalfStates<S>; ++k) {
      const int n = half_of(thread) * kHalfStates<S> + k;
      if (n < count) to[first + n * stride + place.channel(channel) * channel_stride] = h.value[c][k];
    }
  }
}
// A of the thread's states times log2 e, so that a decay is one exp2.
template <class S>
HIPPODROME_HOST_DEVICE void load_pair_decays(const CudaScan& p, const CudaPlace& place, int s0, int thread,
                                             PairStates<S>& A) {
  load_pair(static_cast<const S*>(p.A), s0, 1, p.states, p.states - s0, place, thread, A);
  HIPPODROME_UNROLL
  for (int c = 0; c < 2; ++c) {
    HIPPODROME_UNROLL
    for (int k = 0; k < kHalfStates<S>; ++k) A.value[c][k] *= S(cuda::kLog2E);
  }
}

}  // namespace hippodrome::s6
