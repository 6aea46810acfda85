// The forward kernel of the selective scan: a block is 64 channels of one row or segment, in tiles of steps. A thread
// has a column of the tile to itself; B and C are staged once for all channels. The states of a channel are a loop of
// 16 at a time within a tile, so that any number of them runs in the same registers; with more than 16 they rest in
// global memory from tile to tile.
//
// What limits it, by a count of the compiled code (sm_90, 16 states): the instructions issued, some 210 a step and
// channel, of which 115 are the states'. The special functions, 20 a step, take their unit 160 cycles. So none of them
// is moved to the FMA pipe (cuda::exp2_on_fma), which would cost a dozen instructions each. Shared memory serves 2 N
// broadcast values a step and channel, in vectors of four.
#pragma once

#include "architectures/ssm/selective_scan/cuda_block.h"

namespace hippodrome::s6 {

template <class T>
struct ForwardKernel {
  using S = ScalarOf<T>;
  using Params = CudaForward;
  static constexpr int kThreads = kCudaChannels;
  static constexpr int kStates = kCudaStates<S>;
  static constexpr int kTile = 32;  // divides kChunk: a checkpoint falls on a tile's edge

  struct Registers {
    S A[kStates], h[kStates];
  };

  static int64_t blocks(const Params& p) { return cuda_blocks(p.scan, kThreads, p.scan.segments.count); }
  static int64_t shared_bytes(const Params&) {
    return 2 * cuda::shared_size<S>(kTile * kStates) + 3 * cuda::shared_size<S>(kTile * kThreads) +
           cuda::shared_size<int>(kTile);
  }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Params& p) {
    const CudaScan& x = p.scan;
    const CudaPlace place = cuda_place(x, block.index(), kThreads, 0, x.segments.count);
    S* const B = block.template shared<S>(kTile * kStates);
    S* const C = block.template shared<S>(kTile * kStates);
    S* const delta = block.template shared<S>(kTile * kThreads);  // [step][channel], as are
    S* const input = block.template shared<S>(kTile * kThreads);  // delta u
    S* const y = block.template shared<S>(kTile * kThreads);      // and D u + sum_n C h
    int* const kinds = block.template shared<int>(kTile);
    typename Block::template PerThread<Registers> registers;

    for (int64_t begin = place.begin; begin < place.end; begin += kTile) {
      const int steps = static_cast<int>(place.end - begin < kTile ? place.end - begin : kTile);
      for (int64_t s0 = 0; s0 < x.states; s0 += kStates) {
        block.each([&](int thread) {
          stage_states<T, kThreads>(x.B, place, begin, steps, s0, x.states, thread, B);
          stage_states<T, kThreads>(x.C, place, begin, steps, s0, x.states, thread, C);
          if (s0 > 0) return;
          stage_kinds<kThreads>(x, place, begin, steps, thread, kinds);
          if (thread < place.count) stage_column(x, place, begin, steps, thread, delta, input, y);
        });
        block.each([&](int thread) {
          if (thread >= place.count) return;
          Registers& r = registers[thread];
          enter(p, place, begin, s0, thread, r);
          for_each_step<kStates>(kinds, steps, r.h, [&](int i) {
            const int at = i * kThreads + thread;
            if (kinds[i] != kPadding) y[at] += step(delta[at], input[at], B + i * kStates, C + i * kStates, r);
          });
          leave(p, place, begin + steps, s0, thread, r);
          if (s0 + kStates < x.states) return;
          write_column(p, place, begin, steps, kinds, thread, y);
        });
      }
    }
  }

  static HIPPODROME_KERNEL void stage_column(const CudaScan& x, const CudaPlace& place, int64_t begin, int steps,
                                             int thread, S* delta, S* input, S* y) {
    const int64_t b = place.batch, d = place.channel(thread);
    const S skip = read_or_zero<S>(x.D, d), bias = read_or_zero<S>(x.delta_bias, d);
    for (int from = 0; from < steps; from += kAhead) {
      S raw[kAhead], u[kAhead];
      read_ahead<T, kAhead>(x.delta, b, begin + from, steps - from, d, raw);
      read_ahead<T, kAhead>(x.u, b, begin + from, steps - from, d, u);
      HIPPODROME_UNROLL
      for (int k = 0; k < kAhead; ++k) {
        if (from + k >= steps) break;
        const int at = (from + k) * kThreads + thread;
        const S size = step_size(x, raw[k] + bias);
        delta[at] = size;
        input[at] = size * u[k];
        y[at] = skip * u[k];
      }
    }
  }
  static HIPPODROME_KERNEL void write_column(const Params& p, const CudaPlace& place, int64_t begin, int steps,
                                             const int* kinds, int thread, const S* y) {
    const int64_t b = place.batch, d = place.channel(thread);
    for (int from = 0; from < steps; from += kAhead) {
      S z[kAhead];
      clear_states<kAhead>(z);
      if (p.scan.z.data != nullptr) read_ahead<T, kAhead>(p.scan.z, b, begin + from, steps - from, d, z);
      HIPPODROME_UNROLL
      for (int k = 0; k < kAhead; ++k) {
        const int i = from + k;
        if (i >= steps) break;
        write_output<T>(p, b, begin + i, d, kinds[i], y[i * kThreads + thread], z[k]);
      }
    }
  }

  // h <- abar h + delta u B; returns sum_n C h.
  static HIPPODROME_KERNEL S step(S delta, S input, const S* B, const S* C, Registers& r) {
    S sums[4] = {S(0), S(0), S(0), S(0)};  // four, since one would be a chain of kStates additions
    HIPPODROME_UNROLL
    for (int n = 0; n < kStates; ++n) {
      r.h[n] = cuda::exp2_of(delta * r.A[n]) * r.h[n] + input * B[n];
      sums[n % 4] += C[n] * r.h[n];
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }

  // The states before the tile at `begin`; the registers hold them already when all states fit.
  static HIPPODROME_KERNEL void enter(const Params& p, const CudaPlace& place, int64_t begin, int64_t s0, int thread,
                                      Registers& r) {
    const CudaScan& x = p.scan;
    const int64_t d = place.channel(thread), b = place.batch, count = x.states - s0;
    if (begin == place.begin || x.states > kStates) {
      load_decays<kStates>(x, d, s0, r.A);
      if (begin == place.begin && x.segments.count == 1) {
        const S* const initial = static_cast<const S*>(x.initial_state);
        load_states<kStates>(initial != nullptr ? initial + state_offset(x, b, d) + s0 : nullptr, 1, count, r.h);
      } else {
        const int64_t at = part_offset(x, b, place.segment, x.segments.count, s0) + d;
        load_states<kStates>(static_cast<const S*>(p.states) + at, x.channels, count, r.h);
      }
    }
    if (p.checkpoints != nullptr && begin % kChunk == 0) {
      S* const to = static_cast<S*>(p.checkpoints) + part_offset(x, b, begin / kChunk, chunk_count(x), s0) + d;
      store_states<kStates>(r.h, count, x.channels, to);
    }
  }

  static HIPPODROME_KERNEL void leave(const Params& p, const CudaPlace& place, int64_t end, int64_t s0, int thread,
                                      const Registers& r) {
    const CudaScan& x = p.scan;
    const int64_t d = place.channel(thread), b = place.batch, count = x.states - s0;
    if (end == x.length) {
      store_states<kStates>(r.h, count, 1, static_cast<S*>(p.last_state) + state_offset(x, b, d) + s0);
    } else if (x.states > kStates) {
      const int64_t at = part_offset(x, b, place.segment, x.segments.count, s0) + d;
      store_states<kStates>(r.h, count, x.channels, static_cast<S*>(p.states) + at);
    }
  }
};

}  // namespace hippodrome::s6
