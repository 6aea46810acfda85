// Segments of a row that run at the same time (cuda_segments in cuda.h), in three launches: a summary of each segment,
// the chain of the summaries, and then the kernel itself, each segment from the state the chain gives it. Backward does
// the same with time reversed. A segment's decay is one exponential, exp(A sum_t delta_t), or zero where a sequence
// starts in it: that cuts the state off, at whatever step.
#pragma once

#include "architectures/ssm/selective_scan/cuda_pair.h"

namespace hippodrome::s6 {

struct CudaSummary {
  CudaScan scan;
  Strided<const void> grad_y;  // of the reverse direction
  void* ends = nullptr;        // [B, segments, N, D], as are
  void* decays = nullptr;
};

// Forwards: the state after every segment but the last, from zero: h <- abar h + delta u B. Backwards: the gradient
// carried out of every segment but the first, from zero: c <- abar (c + dy C). A block has the states of one turn.
template <class T, bool kReverse, bool kPositions>
struct SummaryKernel {
  using S = ScalarOf<T>;
  using Params = CudaSummary;
  static constexpr int kThreads = kCudaChannels;
  static constexpr int kStates = kCudaStates<S>, kHalf = kHalfStates<S>;
  static constexpr int kTile = kPairTile<S>;

  struct Registers {
    PairStates<S> A, h;
    S total[2];
    Two<S> bias;
    bool cut;
    FetchedColumn<T, kTile> column;  // of the tile to come; the gradient of the output in the place of u backwards
    FetchedStates<T, kTile> weights;
    Fetched<T> z[kTile / 2];
  };
  struct Shared {
    S* weights;           // [kTile][kStates] of B, or C
    StepInput<S>* input;  // [kTile][kThreads]
    int* kinds;           // [kTile]
  };

  static HIPPODROME_HOST_DEVICE int64_t turns(const Params& p) { return cuda::ceil_div(p.scan.states, kStates); }
  static int64_t blocks(const Params& p) { return cuda_blocks(p.scan, kThreads, p.scan.segments.count - 1) * turns(p); }
  static int64_t shared_bytes(const Params&) {
    return cuda::shared_size<S>(kTile * kStates) + cuda::shared_size<StepInput<S>>(kTile * kThreads) +
           cuda::shared_size<int>(kTile);
  }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Params& p) {
    const CudaScan& x = p.scan;
    const int s0 = static_cast<int>(block.index() % turns(p) * kStates);
    const CudaPlace place = cuda_place(x, block.index() / turns(p), kThreads, kReverse ? 1 : 0, x.segments.count - 1);
    Shared shared;
    shared.weights = block.template shared<S>(kTile * kStates);
    shared.input = block.template shared<StepInput<S>>(kTile * kThreads);
    shared.kinds = block.template shared<int>(kTile);
    typename Block::template PerThread<Registers> registers;
    const int64_t tiles = cuda::ceil_div(place.end - place.begin, kTile);
    const auto begin_of = [&](int64_t tile) { return place.begin + (kReverse ? tiles - 1 - tile : tile) * kTile; };
    const auto steps_of = [&](int64_t tile) {
      const int64_t rest = place.end - begin_of(tile);
      return static_cast<int>(rest < kTile ? rest : kTile);
    };

    block.alone([&](int thread) {
      Registers& r = registers[thread];
      r.total[0] = r.total[1] = S(0);
      r.bias = read_two_or_zero<S>(x.delta_bias, place, thread);
      r.cut = false;
      clear_states<kStates>(&r.h.value[0][0]);
      load_pair_decays(x, place, s0, thread, r.A);
      HIPPODROME_UNROLL
      for (int i = 0; i < kTile / 2; ++i) r.column.u[i] = r.z[i] = {};
      fetch(p, place, begin_of(0), steps_of(0), s0, thread, r);
    });
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int steps = steps_of(tile);
      if (kPositions) {
        block.each([&](int thread) { stage_kinds<kThreads>(x, place, begin_of(tile), steps, thread, shared.kinds); });
      }
      block.each([&](int thread) {
        Registers& r = registers[thread];
        put_states<kPositions>(r.weights, steps, shared.kinds, thread, shared.weights);
        put_column<kPositions>(x, place, r.column, r.z, kReverse && x.z.data != nullptr, r.bias, steps, shared.kinds,
                               thread, shared.input);
        if (tile + 1 < tiles) fetch(p, place, begin_of(tile + 1), steps_of(tile + 1), s0, thread, r);
      });
      block.each([&](int thread) { move(shared, steps, thread, registers[thread]); });
    }
    block.alone([&](int thread) {
      Registers& r = registers[thread];
      const int64_t at = part_offset(x, place.batch, place.segment, x.segments.count, s0), count = x.states - s0;
      store_pair(r.h, at, x.channels, 1, count, place, thread, static_cast<S*>(p.ends));
      HIPPODROME_UNROLL
      for (int c = 0; c < 2; ++c) {
        HIPPODROME_UNROLL
        for (int k = 0; k < kHalf; ++k) {
          r.A.value[c][k] = r.cut ? S(0) : cuda::exp2_of(r.total[c] * r.A.value[c][k]);
        }
      }
      store_pair(r.A, at, x.channels, 1, count, place, thread, static_cast<S*>(p.decays));
    });
  }

  static HIPPODROME_KERNEL void fetch(const Params& p, const CudaPlace& place, int64_t begin, int steps, int s0,
                                      int thread, Registers& r) {
    const CudaScan& x = p.scan;
    fetch_states(kReverse ? x.C : x.B, place, begin, steps, s0, x.states, thread, r.weights);
    fetch_rows(x.delta, place, begin, steps, thread, r.column.delta);
    if (!kReverse) {
      fetch_rows(x.u, place, begin, steps, thread, r.column.u);
    } else if (p.grad_y.data != nullptr) {
      fetch_rows(p.grad_y, place, begin, steps, thread, r.column.u);
      if (x.z.data != nullptr) fetch_rows(x.z, place, begin, steps, thread, r.z);
    }
  }

  static HIPPODROME_KERNEL void move(const Shared& shared, int steps, int thread, Registers& r) {
    const int pair = pair_of(thread), half = half_of(thread);
    S part[2] = {S(0), S(0)};  // sums of sums, for the sake of rounding
    const auto step = [&](int i) {
      const PairInput<S> input = read_pair(shared.input + i * kThreads, pair);
      const HalfStates<S> weights = read_half(shared.weights + i * kStates, half);
      part[0] += input.of[0].delta, part[1] += input.of[1].delta;
      if (kPositions) r.cut = r.cut || shared.kinds[i] == kStarts;
      if constexpr (kReverse) {
        HIPPODROME_UNROLL
        for (int k = 0; k < kHalf; ++k) {
          HIPPODROME_UNROLL
          for (int c = 0; c < 2; ++c) {
            S& carry = r.h.value[c][k];
            carry = cuda::exp2_of(input.of[c].delta * r.A.value[c][k]) * (input.of[c].u * weights.value[k] + carry);
          }
        }
      } else {
        move_pair(input, r.A, weights, r.h, static_cast<const HalfStates<S>*>(nullptr));
      }
      if (kReverse && kPositions && shared.kinds[i] == kStarts) clear_states<kStates>(&r.h.value[0][0]);
    };
    if constexpr (kReverse) {
      HIPPODROME_UNROLL_BY_TWO
      for (int i = (kPositions ? steps : kTile) - 1; i >= 0; --i) step(i);
    } else if constexpr (kPositions) {
      for_each_step<kStates>(shared.kinds, steps, &r.h.value[0][0], step);
    } else {
      HIPPODROME_UNROLL_BY_TWO
      for (int i = 0; i < kTile; ++i) step(i);
    }
    r.total[0] += part[0], r.total[1] += part[1];
  }
};

struct CudaChain {
  CudaScan scan;
  const void* first = nullptr;  // [B, D, N]: what enters the first segment in the direction of the chain, or null
  const void* decays = nullptr;
  void* ends = nullptr;  // overwritten with what enters each segment
};

// A block is one state of 128 channels.
template <class S, bool kReverse>
struct ChainKernel {
  using Params = CudaChain;
  static constexpr int kThreads = 128;
  static int64_t blocks(const Params& p) {
    return p.scan.batch * p.scan.states * cuda::ceil_div(p.scan.channels, kThreads);
  }
  static int64_t shared_bytes(const Params&) { return 0; }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Params& p) {
    const CudaScan& x = p.scan;
    const int64_t parts = cuda::ceil_div(x.channels, kThreads), n = block.index() / parts % x.states,
                  b = block.index() / (parts * x.states), segments = x.segments.count;
    block.alone([&](int thread) {
      const int64_t d = block.index() % parts * kThreads + thread;
      if (d >= x.channels) return;
      S carried = read_or_zero<S>(p.first, state_offset(x, b, d) + n);
      const auto place_of = [&](int64_t k) {
        return part_offset(x, b, kReverse ? segments - 1 - k : k, segments, n) + d;
      };
      for (int64_t first = 0; first < segments; first += kAhead) {
        S decay[kAhead], end[kAhead];
        HIPPODROME_UNROLL
        for (int k = 0; k < kAhead; ++k) {
          const bool chained = first + k + 1 < segments;  // the last segment has no summary
          decay[k] = chained ? static_cast<const S*>(p.decays)[place_of(first + k)] : S(0);
          end[k] = chained ? static_cast<const S*>(p.ends)[place_of(first + k)] : S(0);
        }
        HIPPODROME_UNROLL
        for (int k = 0; k < kAhead; ++k) {
          if (first + k >= segments) break;
          static_cast<S*>(p.ends)[place_of(first + k)] = carried;
          carried = (decay[k] == S(0) ? S(0) : decay[k] * carried) + end[k];  // not even NaN passes a cut
        }
      }
    });
  }
};

}  // namespace hippodrome::s6
