// The backward kernel of the selective scan: a block is 64 channels of one row or segment, a thread one channel, chunk
// by chunk from the last. Nothing but the checkpoints is kept of forward. Within a chunk the thread runs forwards from
// the checkpoint and keeps the state before each of its eight tiles; then, tile by tile from the last, it runs forwards
// once more, keeping every state, and backwards.
//
// The states of a tile are in shared memory, [step][state][channel], so that dC = sum_d dy h and dB = sum_d delta u g
// are sums along rows: each by one thread, over all channels of the block, in a fixed order. The reverse scan writes
// delta u g where it has just read h. Rows are padded by one channel, so that the threads of a sum, which walk rows
// side by side, use different banks.
//
// What limits it: arithmetic (three exponentials and about 25 FMAs a step, channel and state) and shared memory (six
// accesses); 74.75 KiB of shared memory let three blocks run on a multiprocessor of Hopper.
#pragma once

#include "architectures/ssm/selective_scan/cuda_segments.h"

namespace hippodrome::s6 {

// term(0) + ... + term(count - 1), in four interleaved parts.
template <class S, class F>
HIPPODROME_HOST_DEVICE S sum_of(int count, const F& term) {
  S sums[4] = {S(0), S(0), S(0), S(0)};
  int c = 0;
  for (; c + 4 <= count; c += 4) {
    HIPPODROME_UNROLL
    for (int k = 0; k < 4; ++k) sums[k] += term(c + k);
  }
  for (; c < count; ++c) sums[0] += term(c);
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

template <class T>
HIPPODROME_HOST_DEVICE void write_gate_gradient(const CudaBackward& p, int64_t b, int64_t t, int64_t d,
                                                ScalarOf<T> ungated) {
  const CudaScan& x = p.scan;
  if (p.z == nullptr) return;
  ScalarOf<T> dz = ScalarOf<T>(0);
  if (p.grad_y.data != nullptr) dz = read<T>(p.grad_y, b, t, d) * ungated * cuda::silu_slope(read<T>(x.z, b, t, d));
  store(dz, static_cast<T*>(p.z) + (b * x.length + t) * x.channels + d);
}
// du and the gradient of the step size; returns that of delta.
template <class T>
HIPPODROME_HOST_DEVICE ScalarOf<T> write_input_gradients(const CudaBackward& p, int64_t b, int64_t t, int64_t d,
                                                         ScalarOf<T> du, ScalarOf<T> ddelta) {
  const CudaScan& x = p.scan;
  const int64_t at = (b * x.length + t) * x.channels + d;
  if (x.delta_softplus) {
    ddelta *= cuda::softplus_slope(read<T>(x.delta, b, t, d) + read_or_zero<ScalarOf<T>>(x.delta_bias, d));
  }
  store(du, static_cast<T*>(p.u) + at);
  store(ddelta, static_cast<T*>(p.delta) + at);
  return ddelta;
}
template <class T>
HIPPODROME_HOST_DEVICE void write_padding(const CudaBackward& p, int64_t b, int64_t t, int64_t d) {
  const int64_t at = (b * p.scan.length + t) * p.scan.channels + d;
  for (void* const to : {p.u, p.delta, p.z}) {
    if (to != nullptr) store(ScalarOf<T>(0), static_cast<T*>(to) + at);
  }
}

template <class T>
struct BackwardKernel {
  using S = ScalarOf<T>;
  using Params = CudaBackward;
  static constexpr int kThreads = kCudaChannels;
  static constexpr int kStates = kCudaStates<S>;
  static constexpr int kSteps = static_cast<int>(kChunk);
  static constexpr int kTile = 8;
  static constexpr int kTiles = kSteps / kTile;
  static constexpr int kRow = kThreads + 1;

  struct Registers {
    S A[kStates], carry[kStates], dA[kStates];  // carry: abar_{t+1} g_{t+1}
    S skip, dD, dbias;
  };
  struct Shared {
    S *B, *C;           // [kSteps][kStates]
    S* kept;            // [kTiles - 1][kStates][kThreads]: the state before each tile but the first
    S* history;         // [kTile][kStates][kRow]
    S *delta, *u, *dy;  // [kTile][kThreads]
    int* kinds;         // [kSteps]
  };
  // The chunk and the states that are the turn's.
  struct Turn {
    int64_t begin;
    int steps, s0, count;
    bool first, last;
  };

  static int64_t blocks(const Params& p) { return cuda_blocks(p.scan, kThreads, p.scan.segments.count); }
  static int64_t shared_bytes(const Params&) {
    return 2 * cuda::shared_size<S>(kSteps * kStates) + cuda::shared_size<S>((kTiles - 1) * kStates * kThreads) +
           cuda::shared_size<S>(kTile * kStates * kRow) + 3 * cuda::shared_size<S>(kTile * kThreads) +
           cuda::shared_size<int>(kSteps);
  }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Params& p) {
    const CudaScan& x = p.scan;
    const CudaPlace place = cuda_place(x, block.index(), kThreads, 0, x.segments.count);
    Shared shared;
    shared.B = block.template shared<S>(kSteps * kStates);
    shared.C = block.template shared<S>(kSteps * kStates);
    shared.kept = block.template shared<S>((kTiles - 1) * kStates * kThreads);
    shared.history = block.template shared<S>(kTile * kStates * kRow);
    shared.delta = block.template shared<S>(kTile * kThreads);
    shared.u = block.template shared<S>(kTile * kThreads);
    shared.dy = block.template shared<S>(kTile * kThreads);
    shared.kinds = block.template shared<int>(kSteps);
    // [step][3][channel]
    S* const scratch =
        p.scratch != nullptr ? static_cast<S*>(p.scratch) + block.index() * kSteps * 3 * kThreads : nullptr;
    typename Block::template PerThread<Registers> registers;

    block.alone([&](int thread) {
      Registers& r = registers[thread];
      r.dD = r.dbias = S(0);
      r.skip = thread < place.count ? read_or_zero<S>(x.D, place.channel(thread)) : S(0);
    });
    const int64_t first_chunk = place.begin / kChunk;
    for (int64_t chunk = cuda::ceil_div(place.end, kChunk) - 1; chunk >= first_chunk; --chunk) {
      Turn turn;
      turn.begin = chunk * kChunk;
      turn.steps = static_cast<int>(place.end - turn.begin < kChunk ? place.end - turn.begin : kChunk);
      for (turn.s0 = 0; turn.s0 < x.states; turn.s0 += kStates) {
        turn.count = static_cast<int>(x.states) - turn.s0;
        turn.first = turn.s0 == 0;
        turn.last = turn.count <= kStates;
        block.each([&](int thread) {
          stage_kinds<kThreads>(x, place, turn.begin, turn.steps, thread, shared.kinds);
          stage_states<T, kThreads>(x.B, place, turn.begin, turn.steps, turn.s0, x.states, thread, shared.B);
          stage_states<T, kThreads>(x.C, place, turn.begin, turn.steps, turn.s0, x.states, thread, shared.C);
        });
        block.alone([&](int thread) {
          if (thread >= place.count) return;
          enter(p, place, turn, thread, registers[thread]);
          sweep(p, place, turn, thread, registers[thread].A, shared);
        });
        for (int tile = (turn.steps - 1) / kTile; tile >= 0; --tile) {
          const int from = tile * kTile, steps = turn.steps - from < kTile ? turn.steps - from : kTile;
          block.each([&](int thread) {
            if (thread >= place.count) return;
            replay(p, place, turn, from, steps, thread, registers[thread], shared, scratch);
          });
          block.each([&](int thread) {
            sum_channels(
                turn, from, steps, thread, shared, sums_of(p, p.C, place),
                [&](int i, const S* row) {
                  const S* const dy = shared.dy + i * kThreads;
                  return sum_of<S>(place.count, [&](int c) { return dy[c] * row[c]; });
                },
                x.states);
          });
          block.each([&](int thread) {
            if (thread >= place.count) return;
            reverse(p, place, turn, from, steps, thread, registers[thread], shared, scratch);
          });
          block.each([&](int thread) {
            sum_channels(
                turn, from, steps, thread, shared, sums_of(p, p.B, place),
                [&](int, const S* row) { return sum_of<S>(place.count, [&](int c) { return row[c]; }); }, x.states);
          });
        }
        block.alone([&](int thread) {
          if (thread < place.count) leave(p, place, turn, thread, registers[thread]);
        });
      }
    }
    block.alone([&](int thread) {
      if (thread >= place.count) return;
      const int64_t at = (place.batch * x.segments.count + place.segment) * x.channels + place.channel(thread);
      static_cast<S*>(p.D)[at] = registers[thread].dD;
      static_cast<S*>(p.delta_bias)[at] = registers[thread].dbias;
    });
  }

  // A, the carried gradient and dA so far; the registers hold them already when all states fit.
  static HIPPODROME_KERNEL void enter(const Params& p, const CudaPlace& place, const Turn& turn, int thread,
                                      Registers& r) {
    const CudaScan& x = p.scan;
    const int64_t d = place.channel(thread), b = place.batch;
    const bool fresh = turn.begin + turn.steps == place.end;
    if (!fresh && x.states <= kStates) return;
    load_decays<kStates>(x, d, turn.s0, r.A);
    const int64_t at = part_offset(x, b, place.segment, x.segments.count, turn.s0) + d;
    load_states<kStates>(fresh ? nullptr : static_cast<const S*>(p.A) + at, x.channels, turn.count, r.dA);
    if (fresh && x.segments.count == 1) {
      const S* const last = static_cast<const S*>(p.grad_last_state);
      load_states<kStates>(last != nullptr ? last + state_offset(x, b, d) + turn.s0 : nullptr, 1, turn.count, r.carry);
    } else {
      load_states<kStates>(static_cast<const S*>(p.carries) + at, x.channels, turn.count, r.carry);
    }
  }
  static HIPPODROME_KERNEL void leave(const Params& p, const CudaPlace& place, const Turn& turn, int thread,
                                      const Registers& r) {
    const CudaScan& x = p.scan;
    const int64_t d = place.channel(thread), b = place.batch;
    const int64_t at = part_offset(x, b, place.segment, x.segments.count, turn.s0) + d;
    const bool done = turn.begin == place.begin;
    if (done || x.states > kStates) store_states<kStates>(r.dA, turn.count, x.channels, static_cast<S*>(p.A) + at);
    if (!done && x.states > kStates)
      store_states<kStates>(r.carry, turn.count, x.channels, static_cast<S*>(p.carries) + at);
    if (turn.begin == 0 && p.initial_state != nullptr) {
      store_states<kStates>(r.carry, turn.count, 1, static_cast<S*>(p.initial_state) + state_offset(x, b, d) + turn.s0);
    }
  }

  static HIPPODROME_KERNEL void load_checkpoint(const Params& p, const CudaPlace& place, const Turn& turn, int thread,
                                                S* h) {
    const CudaScan& x = p.scan;
    const S* const from = static_cast<const S*>(p.checkpoints) +
                          part_offset(x, place.batch, turn.begin / kChunk, chunk_count(x), turn.s0) +
                          place.channel(thread);
    load_states<kStates>(from, x.channels, turn.count, h);
  }
  static HIPPODROME_KERNEL void move_state(S delta, S input, const S* A, const S* B, S* h) {
    HIPPODROME_UNROLL
    for (int n = 0; n < kStates; ++n) h[n] = cuda::exp2_of(delta * A[n]) * h[n] + input * B[n];
  }

  // From the checkpoint to the last tile, keeping the state before each.
  static HIPPODROME_KERNEL void sweep(const Params& p, const CudaPlace& place, const Turn& turn, int thread, const S* A,
                                      const Shared& shared) {
    S h[kStates];
    load_checkpoint(p, place, turn, thread, h);
    for (int from = 0; from + kTile < turn.steps; from += kTile) {
      stage_column(p.scan, place, turn.begin + from, kTile, thread, shared);
      for_each_step<kStates>(shared.kinds + from, kTile, h, [&](int i) {
        if (shared.kinds[from + i] == kPadding) return;
        const S delta = shared.delta[i * kThreads + thread];
        move_state(delta, delta * shared.u[i * kThreads + thread], A, shared.B + (from + i) * kStates, h);
      });
      store_states<kStates>(h, kStates, kThreads, shared.kept + from / kTile * kStates * kThreads + thread);
    }
  }
  static HIPPODROME_KERNEL void stage_column(const CudaScan& x, const CudaPlace& place, int64_t begin, int steps,
                                             int thread, const Shared& shared) {
    const int64_t b = place.batch, d = place.channel(thread);
    const S bias = read_or_zero<S>(x.delta_bias, d);
    S raw[kTile], u[kTile];
    read_ahead<T, kTile>(x.delta, b, begin, steps, d, raw);
    read_ahead<T, kTile>(x.u, b, begin, steps, d, u);
    HIPPODROME_UNROLL
    for (int i = 0; i < kTile; ++i) {
      shared.delta[i * kThreads + thread] = step_size(x, raw[i] + bias);
      shared.u[i * kThreads + thread] = u[i];
    }
  }

  // The state before step `from` of the chunk, the first of a tile.
  static HIPPODROME_KERNEL void load_tile_state(const Params& p, const CudaPlace& place, const Turn& turn, int from,
                                                int thread, const Shared& shared, S* h) {
    if (from == 0) {
      load_checkpoint(p, place, turn, thread, h);
    } else {
      load_states<kStates>(shared.kept + (from / kTile - 1) * kStates * kThreads + thread, kThreads, kStates, h);
    }
  }

  // The states of a tile, forwards; and the gradient of the gate, which takes the output.
  static HIPPODROME_KERNEL void replay(const Params& p, const CudaPlace& place, const Turn& turn, int from, int steps,
                                       int thread, const Registers& r, const Shared& shared, S* scratch) {
    const CudaScan& x = p.scan;
    const int64_t b = place.batch, d = place.channel(thread);
    stage_column(x, place, turn.begin + from, steps, thread, shared);
    S dy[kTile];
    read_ungated<T, kTile>(x, p.grad_y, b, turn.begin + from, steps, d, dy);
    HIPPODROME_UNROLL
    for (int i = 0; i < kTile; ++i) shared.dy[i * kThreads + thread] = dy[i];
    S h[kStates];
    load_tile_state(p, place, turn, from, thread, shared, h);
    for_each_step<kStates>(shared.kinds + from, steps, h, [&](int i) {
      const bool padding = shared.kinds[from + i] == kPadding;
      const S delta = shared.delta[i * kThreads + thread], u = shared.u[i * kThreads + thread];
      if (!padding) move_state(delta, delta * u, r.A, shared.B + (from + i) * kStates, h);
      store_states<kStates>(h, kStates, kRow, shared.history + i * kStates * kRow + thread);
      if (p.z == nullptr || padding) return;
      const S* const C = shared.C + (from + i) * kStates;
      S sums[2] = {S(0), S(0)};
      HIPPODROME_UNROLL
      for (int n = 0; n < kStates; ++n) sums[n % 2] += C[n] * h[n];
      S y = sums[0] + sums[1];
      S* const kept = scratch + (from + i) * 3 * kThreads + thread;
      if (!turn.first) y += *kept;
      if (turn.last) {
        write_gate_gradient<T>(p, b, turn.begin + from + i, d, y + r.skip * u);
      } else {
        *kept = y;
      }
    });
  }

  // g from the last step of a tile to the first. Leaves delta u g in the place of the states.
  static HIPPODROME_KERNEL void reverse(const Params& p, const CudaPlace& place, const Turn& turn, int from, int steps,
                                        int thread, Registers& r, const Shared& shared, S* scratch) {
    const int64_t b = place.batch, d = place.channel(thread);
    for (int i = steps - 1; i >= 0; --i) {
      const int kind = shared.kinds[from + i];
      const int64_t t = turn.begin + from + i;
      if (kind == kPadding) {
        if (turn.last) write_padding<T>(p, b, t, d);
        continue;
      }
      S before[kStates];
      if (kind == kStarts) {
        clear_states<kStates>(before);
      } else if (i == 0) {
        load_tile_state(p, place, turn, from, thread, shared, before);
      } else {
        load_states<kStates>(shared.history + (i - 1) * kStates * kRow + thread, kRow, kStates, before);
      }
      const S delta = shared.delta[i * kThreads + thread], u = shared.u[i * kThreads + thread],
              dy = shared.dy[i * kThreads + thread];
      const S *const B = shared.B + (from + i) * kStates, *const C = shared.C + (from + i) * kStates;
      S gB[2] = {S(0), S(0)}, gAp[2] = {S(0), S(0)};  // sums over the states; A is scaled by log2 e
      HIPPODROME_UNROLL
      for (int n = 0; n < kStates; ++n) {
        const S abar = cuda::exp2_of(delta * r.A[n]);
        const S kept = abar * before[n];  // p of op.h
        const S g = dy * C[n] + r.carry[n];
        gB[n % 2] += g * B[n];
        gAp[n % 2] += r.A[n] * (g * kept);
        r.dA[n] += delta * (g * kept);
        r.carry[n] = abar * g;
        shared.history[(i * kStates + n) * kRow + thread] = delta * u * g;
      }
      if (kind == kStarts) clear_states<kStates>(r.carry);
      S sum_gB = gB[0] + gB[1], sum_gAp = gAp[0] + gAp[1];
      S* const kept = scratch + ((from + i) * 3 + 1) * kThreads + thread;
      if (!turn.first) {
        sum_gB += kept[0];
        sum_gAp += kept[kThreads];
      }
      if (turn.last) {
        r.dD += dy * u;
        r.dbias += write_input_gradients<T>(p, b, t, d, r.skip * dy + delta * sum_gB,
                                            u * sum_gB + S(1.0 / cuda::kLog2E) * sum_gAp);
      } else {
        kept[0] = sum_gB;
        kept[kThreads] = sum_gAp;
      }
    }
  }

  // Row 0 of the block's partial dB or dC, [L, N].
  static HIPPODROME_KERNEL S* sums_of(const Params& p, void* partial, const CudaPlace& place) {
    const CudaScan& x = p.scan;
    const int64_t blocks = cuda::ceil_div(x.channels / x.groups, kThreads);
    return static_cast<S*>(partial) +
           ((place.batch * x.groups + place.group) * blocks + place.block) * x.length * x.states;
  }
  // sum(step, row of channels) for every step and state of a tile; padding rows are zero.
  template <class F>
  static HIPPODROME_KERNEL void sum_channels(const Turn& turn, int from, int steps, int thread, const Shared& shared,
                                             S* to, const F& sum, int64_t states) {
    for (int pair = thread; pair < steps * kStates; pair += kThreads) {
      const int i = pair / kStates, n = pair % kStates;
      if (n >= turn.count) continue;
      to[(turn.begin + from + i) * states + turn.s0 + n] =
          shared.kinds[from + i] == kPadding ? S(0) : sum(i, shared.history + pair * kRow);
    }
  }
};

}  // namespace hippodrome::s6
