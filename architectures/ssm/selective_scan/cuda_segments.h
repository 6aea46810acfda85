// Segments of a row that run at the same time (cuda_segments in cuda.h), in three launches: a summary of each segment,
// the chain of the summaries, and then the kernel itself, each segment from the state the chain gives it. Backward does
// the same with time reversed. A segment's decay is one exponential, exp(A sum_t delta_t), or zero where a sequence
// starts in it: that cuts the state off, at whatever step.
#pragma once

#include "architectures/ssm/selective_scan/cuda_block.h"

namespace hippodrome::s6 {

struct CudaSummary {
  CudaScan scan;
  Strided<const void> grad_y;  // of the reverse direction
  void* ends = nullptr;        // [B, segments, N, D], as are
  void* decays = nullptr;
};

// Forwards: the state after every segment but the last, from zero: h <- abar h + delta u B. Backwards: the gradient
// carried out of every segment but the first, from zero: c <- abar (c + dy C). A block has the states of one turn.
template <class T, bool kReverse>
struct SummaryKernel {
  using S = ScalarOf<T>;
  using Params = CudaSummary;
  static constexpr int kThreads = kCudaChannels;
  static constexpr int kStates = kCudaStates<S>;
  static constexpr int kTile = 32;

  struct Registers {
    S A[kStates], h[kStates];
    S total;
    bool cut;
  };

  static HIPPODROME_HOST_DEVICE int64_t turns(const Params& p) { return cuda::ceil_div(p.scan.states, kStates); }
  static int64_t blocks(const Params& p) { return cuda_blocks(p.scan, kThreads, p.scan.segments.count - 1) * turns(p); }
  static int64_t shared_bytes(const Params&) {
    return cuda::shared_size<S>(kTile * kStates) + 2 * cuda::shared_size<S>(kTile * kThreads) +
           cuda::shared_size<int>(kTile);
  }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Params& p) {
    const CudaScan& x = p.scan;
    const int64_t s0 = block.index() % turns(p) * kStates, count = x.states - s0;
    const CudaPlace place = cuda_place(x, block.index() / turns(p), kThreads, kReverse ? 1 : 0, x.segments.count - 1);
    S* const weights = block.template shared<S>(kTile * kStates);  // B, or C
    S* const delta = block.template shared<S>(kTile * kThreads);
    S* const input = block.template shared<S>(kTile * kThreads);  // delta u, or dy
    int* const kinds = block.template shared<int>(kTile);
    typename Block::template PerThread<Registers> registers;

    block.alone([&](int thread) {
      Registers& r = registers[thread];
      r.total = S(0);
      r.cut = false;
      clear_states<kStates>(r.h);
      if (thread < place.count) load_decays<kStates>(x, place.channel(thread), s0, r.A);
    });
    const int64_t tiles = cuda::ceil_div(place.end - place.begin, kTile);
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t begin = place.begin + (kReverse ? tiles - 1 - tile : tile) * kTile;
      const int steps = static_cast<int>(place.end - begin < kTile ? place.end - begin : kTile);
      block.each([&](int thread) {
        stage_states<T, kThreads>(kReverse ? x.C : x.B, place, begin, steps, s0, x.states, thread, weights);
        stage_kinds<kThreads>(x, place, begin, steps, thread, kinds);
        if (thread < place.count) stage_column(p, place, begin, steps, thread, delta, input);
      });
      block.each([&](int thread) {
        if (thread >= place.count) return;
        Registers& r = registers[thread];
        S part = S(0);  // sums of sums, for the sake of rounding
        const auto step = [&](int i) {
          if (kinds[i] == kPadding) return;
          const S size = delta[i * kThreads + thread];
          part += size;
          r.cut = r.cut || kinds[i] == kStarts;
          move(size, input[i * kThreads + thread], weights + i * kStates, r);
        };
        if (kReverse) {
          for (int i = steps - 1; i >= 0; --i) {
            step(i);
            if (kinds[i] == kStarts) clear_states<kStates>(r.h);
          }
        } else {
          for_each_step<kStates>(kinds, steps, r.h, step);
        }
        r.total += part;
      });
    }
    block.alone([&](int thread) {
      if (thread >= place.count) return;
      Registers& r = registers[thread];
      const int64_t at = part_offset(x, place.batch, place.segment, x.segments.count, s0) + place.channel(thread);
      store_states<kStates>(r.h, count, x.channels, static_cast<S*>(p.ends) + at);
      HIPPODROME_UNROLL
      for (int n = 0; n < kStates; ++n) r.A[n] = r.cut ? S(0) : cuda::exp2_of(r.total * r.A[n]);
      store_states<kStates>(r.A, count, x.channels, static_cast<S*>(p.decays) + at);
    });
  }

  static HIPPODROME_KERNEL void stage_column(const Params& p, const CudaPlace& place, int64_t begin, int steps,
                                             int thread, S* delta, S* input) {
    const CudaScan& x = p.scan;
    const int64_t b = place.batch, d = place.channel(thread);
    const S bias = read_or_zero<S>(x.delta_bias, d);
    for (int from = 0; from < steps; from += kAhead) {
      S raw[kAhead], values[kAhead];  // u, or dy
      read_ahead<T, kAhead>(x.delta, b, begin + from, steps - from, d, raw);
      if (kReverse) {
        read_ungated<T, kAhead>(x, p.grad_y, b, begin + from, steps - from, d, values);
      } else {
        read_ahead<T, kAhead>(x.u, b, begin + from, steps - from, d, values);
      }
      HIPPODROME_UNROLL
      for (int k = 0; k < kAhead; ++k) {
        if (from + k >= steps) break;
        const int at = (from + k) * kThreads + thread;
        const S size = step_size(x, raw[k] + bias);
        delta[at] = size;
        input[at] = kReverse ? values[k] : size * values[k];
      }
    }
  }

  static HIPPODROME_KERNEL void move(S delta, S input, const S* weights, Registers& r) {
    HIPPODROME_UNROLL
    for (int n = 0; n < kStates; ++n) {
      const S abar = cuda::exp2_of(delta * r.A[n]);
      r.h[n] = kReverse ? abar * (input * weights[n] + r.h[n]) : abar * r.h[n] + input * weights[n];
    }
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
      for (int64_t k = 0; k < segments; ++k) {
        const int64_t at = part_offset(x, b, kReverse ? segments - 1 - k : k, segments, n) + d;
        S* const end = static_cast<S*>(p.ends) + at;
        const S entering = carried;
        if (k + 1 < segments) {
          const S decay = static_cast<const S*>(p.decays)[at];
          carried = (decay == S(0) ? S(0) : decay * carried) + *end;  // not even NaN passes a cut
        }
        *end = entering;
      }
    });
  }
};

}  // namespace hippodrome::s6
