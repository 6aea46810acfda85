// What the CUDA kernels of the selective scan share: which rows and channels a block serves, and how it reads them. A
// thread serves a channel; neighbouring threads neighbouring ones.
#pragma once

#include "architectures/ssm/selective_scan/cuda.h"
#include "core/cuda/block.h"
#include "core/cuda/math.h"

namespace hippodrome::s6 {

using cuda::load;
using cuda::ScalarOf;
using cuda::store;

// Channels first ... first + count of one group, steps begin ... end of one batch row. What counts blocks is 32 bits
// wide: a launch has fewer than 2^31.
struct CudaPlace {
  int batch, segment, group, block;  // block: of the group's channels
  int64_t first;
  int count;
  int64_t begin, end;

  HIPPODROME_HOST_DEVICE int64_t channel(int thread) const { return first + thread; }
};

// Of block `index` of a launch over the segments from first_segment on, `segments` of them.
HIPPODROME_HOST_DEVICE CudaPlace cuda_place(const CudaScan& p, int64_t index, int block_channels, int64_t first_segment,
                                            int64_t segments) {
  const int64_t per_group = p.channels / p.groups, blocks = cuda::ceil_div(per_group, block_channels);
  CudaPlace place;
  place.block = static_cast<int>(index % blocks);
  place.group = static_cast<int>(index / blocks % p.groups);
  place.segment = static_cast<int>(first_segment + index / (blocks * p.groups) % segments);
  place.batch = static_cast<int>(index / (blocks * p.groups * segments));
  place.first = place.group * per_group + int64_t{place.block} * block_channels;
  const int64_t rest = per_group - int64_t{place.block} * block_channels;
  place.count = static_cast<int>(rest < block_channels ? rest : block_channels);
  place.begin = place.segment * p.segments.steps;
  place.end = place.begin + p.segments.steps < p.length ? place.begin + p.segments.steps : p.length;
  return place;
}
HIPPODROME_HOST_DEVICE int64_t cuda_blocks(const CudaScan& p, int block_channels, int64_t segments) {
  return p.batch * segments * p.groups * cuda::ceil_div(p.channels / p.groups, block_channels);
}

// Offsets, in 64 bits since real tensors pass 2^31 elements: (b, t, i) of a Strided tensor; row (b, part, n) of
// [B, parts, N, D]; row (b, d) of [B, D, N].
template <class T>
HIPPODROME_HOST_DEVICE int64_t offset(const Strided<T>& x, int64_t b, int64_t t, int64_t i) {
  return b * x.batch + t * x.time + i;
}
HIPPODROME_HOST_DEVICE int64_t part_offset(const CudaScan& p, int64_t b, int64_t part, int64_t parts, int64_t n) {
  return ((b * parts + part) * p.states + n) * p.channels;
}
HIPPODROME_HOST_DEVICE int64_t state_offset(const CudaScan& p, int64_t b, int64_t d) {
  return (b * p.channels + d) * p.states;
}
HIPPODROME_HOST_DEVICE int64_t chunk_count(const CudaScan& p) { return cuda::ceil_div(p.length, kChunk); }

template <class T>
HIPPODROME_HOST_DEVICE ScalarOf<T> read(const Strided<const void>& x, int64_t b, int64_t t, int64_t d) {
  return load(static_cast<const T*>(x.data)[offset(x, b, t, d)]);
}
template <class S>
HIPPODROME_HOST_DEVICE S read_or_zero(const void* x, int64_t i) {
  return x != nullptr ? static_cast<const S*>(x)[i] : S(0);
}

// What a step does with the state before it.
enum : int { kPadding = -1, kStarts = 0, kContinues = 1 };
HIPPODROME_HOST_DEVICE int step_kind(const CudaScan& p, int64_t b, int64_t t) {
  if (p.positions == nullptr) return kContinues;
  const int64_t position = p.positions[b * p.length + t];
  return position < 0 ? kPadding : position == 0 ? kStarts : kContinues;
}

template <int kStates, class S>
HIPPODROME_HOST_DEVICE void clear_states(S* h) {
  HIPPODROME_UNROLL
  for (int n = 0; n < kStates; ++n) h[n] = S(0);
}

// Steps whose inputs a thread reads before it uses the first, to have that many reads under way.
inline constexpr int kAhead = 8;

// Values at the `steps` steps from t on, at most kCount; after the last, that again.
template <class T, int kCount>
HIPPODROME_HOST_DEVICE void read_ahead(const Strided<const void>& x, int64_t b, int64_t t, int steps, int64_t d,
                                       ScalarOf<T>* values) {
  const T* at = static_cast<const T*>(x.data) + offset(x, b, t, d);
  HIPPODROME_UNROLL
  for (int k = 0; k < kCount; ++k) {
    values[k] = load(*at);
    if (k + 1 < steps) at += x.time;
  }
}
// Gradients of the output before the gate, likewise.
template <class T, int kCount>
HIPPODROME_HOST_DEVICE void read_ungated(const CudaScan& x, const Strided<const void>& grad_y, int64_t b, int64_t t,
                                         int steps, int64_t d, ScalarOf<T>* dy) {
  clear_states<kCount>(dy);
  if (grad_y.data == nullptr) return;
  read_ahead<T, kCount>(grad_y, b, t, steps, d, dy);
  if (x.z.data == nullptr) return;
  ScalarOf<T> z[kCount];
  read_ahead<T, kCount>(x.z, b, t, steps, d, z);
  HIPPODROME_UNROLL
  for (int k = 0; k < kCount; ++k) dy[k] *= cuda::silu(z[k]);
}

// The step size, given delta with its bias.
template <class S>
HIPPODROME_HOST_DEVICE S step_size(const CudaScan& p, S raw) {
  return p.delta_softplus ? cuda::softplus(raw) : raw;
}

// What the scan writes at a step, given its sum over states and D u.
template <class T>
HIPPODROME_HOST_DEVICE void write_output(const CudaForward& p, int64_t b, int64_t t, int64_t d, int kind, ScalarOf<T> y,
                                         ScalarOf<T> z) {
  const CudaScan& x = p.scan;
  if (kind == kPadding) y = ScalarOf<T>(0);
  if (kind != kPadding && x.z.data != nullptr) y *= cuda::silu(z);
  store(y, static_cast<T*>(p.y) + (b * x.length + t) * x.channels + d);
}

// A thread's states s0 ... s0 + kStates of channel d; zeros past N, which stay zero. A is scaled by log2 e, so that a
// decay is one exp2.
template <int kStates, class S>
HIPPODROME_HOST_DEVICE void load_decays(const CudaScan& p, int64_t d, int64_t s0, S* A) {
  HIPPODROME_UNROLL
  for (int n = 0; n < kStates; ++n) {
    A[n] = s0 + n < p.states ? static_cast<const S*>(p.A)[d * p.states + s0 + n] * S(cuda::kLog2E) : S(0);
  }
}
// From or to places `stride` apart.
template <int kStates, class S>
HIPPODROME_HOST_DEVICE void load_states(const S* from, int64_t stride, int64_t count, S* h) {
  HIPPODROME_UNROLL
  for (int n = 0; n < kStates; ++n) h[n] = from != nullptr && n < count ? from[n * stride] : S(0);
}
template <int kStates, class S>
HIPPODROME_HOST_DEVICE void store_states(const S* h, int64_t count, int64_t stride, S* to) {
  HIPPODROME_UNROLL
  for (int n = 0; n < kStates; ++n) {
    if (n < count) to[n * stride] = h[n];
  }
}

// step(i) for all steps of a tile, with the states h cleared before those that start a sequence. Two loops, since the
// compiler makes of one a choice for each state at each step.
template <int kStates, class S, class F>
HIPPODROME_HOST_DEVICE void for_each_step(const int* kinds, int steps, S* h, const F& step) {
  for (int i = 0; i < steps;) {
    if (kinds[i] == kStarts) clear_states<kStates>(h);
    do {
      step(i);
      ++i;
    } while (i < steps && kinds[i] != kStarts);
  }
}

// Steps begin ... begin + steps of B or C to a tile [steps][kStates] in shared memory, by all threads of a block.
template <class T, int kThreads, class S>
HIPPODROME_KERNEL void stage_states(const StridedGroups<void>& from, const CudaPlace& place, int64_t begin, int steps,
                                    int64_t s0, int64_t states, int thread, S* tile) {
  constexpr int kStates = kCudaStates<S>;
  const T* const rows =
      static_cast<const T*>(from.data) + place.batch * from.batch + place.group * from.group + begin * from.time + s0;
  for (int i = thread; i < steps * kStates; i += kThreads) {
    const int n = i % kStates;
    tile[i] = s0 + n < states ? load(rows[i / kStates * from.time + n]) : S(0);
  }
}
template <int kThreads>
HIPPODROME_KERNEL void stage_kinds(const CudaScan& p, const CudaPlace& place, int64_t begin, int steps, int thread,
                                   int* kinds) {
  for (int i = thread; i < steps; i += kThreads) kinds[i] = step_kind(p, place.batch, begin + i);
}

}  // namespace hippodrome::s6
