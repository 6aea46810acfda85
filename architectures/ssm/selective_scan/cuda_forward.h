// The forward kernel of the selective scan: a block is 64 channels of one row or segment, in tiles of steps; a thread
// has two channels and half of the states (cuda_pair.h), and writes the outputs of its channels at half of the steps.
// The states of a channel are a loop of 16 at a time within a tile, so that any number of them runs in the same
// registers; with more than 16 they rest in global memory from tile to tile.
//
// What limits it, by a count of the compiled code (sm_90, bfloat16, 16 states, no positions), a step and channel: the
// special functions, 16 decays and four of softplus and gate, which take their unit 160 cycles of a warp. The
// instructions issued are 150: 93 for the states (five each, the rest loads and the outputs' store) and 57 for what
// comes and goes. Shared memory serves 80 bytes a thread. The unit is not relieved by a polynomial on the FMA pipe: for
// one state of 16 that is 152 cycles and 159 instructions (nine more than multiplication and ex2), for two it is
// 144 and 168.
#pragma once

#include "architectures/ssm/selective_scan/cuda_pair.h"

namespace hippodrome::s6 {

template <class T, bool kPositions>
struct ForwardKernel {
  using S = ScalarOf<T>;
  using Params = CudaForward;
  static constexpr int kThreads = kCudaChannels;
  static constexpr int kStates = kCudaStates<S>;
  static constexpr int kTile = kPairTile<S>;

  struct Registers {
    PairStates<S> A, h;
    Two<S> skip, bias;
    FetchedColumn<T, kTile> column;  // of the tile to come, as are B and C
    FetchedStates<T, kTile> B, C;
    Fetched<T> z[kTile / 2];  // of this tile
  };
  struct Shared {
    S *B, *C;             // [kTile][kStates]
    StepInput<S>* input;  // [kTile][kThreads]
    S* y;                 // [kTile][2][kThreads]: sum_n C h over each half of the states
    int* kinds;           // [kTile]
  };

  static int64_t blocks(const Params& p) { return cuda_blocks(p.scan, kThreads, p.scan.segments.count); }
  static int64_t shared_bytes(const Params&) {
    return 2 * cuda::shared_size<S>(kTile * kStates) + cuda::shared_size<StepInput<S>>(kTile * kThreads) +
           cuda::shared_size<S>(kTile * 2 * kThreads) + cuda::shared_size<int>(kTile);
  }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Params& p) {
    const CudaScan& x = p.scan;
    const CudaPlace place = cuda_place(x, block.index(), kThreads, 0, x.segments.count);
    Shared shared;
    shared.B = block.template shared<S>(kTile * kStates);
    shared.C = block.template shared<S>(kTile * kStates);
    shared.input = block.template shared<StepInput<S>>(kTile * kThreads);
    shared.y = block.template shared<S>(kTile * 2 * kThreads);
    shared.kinds = block.template shared<int>(kTile);
    typename Block::template PerThread<Registers> registers;

    block.alone([&](int thread) {
      Registers& r = registers[thread];
      r.skip = read_two_or_zero<S>(x.D, place, thread);
      r.bias = read_two_or_zero<S>(x.delta_bias, place, thread);
      fetch(x, place, place.begin, 0, thread, r);
    });
    for (int64_t begin = place.begin; begin < place.end; begin += kTile) {
      const int steps = static_cast<int>(place.end - begin < kTile ? place.end - begin : kTile);
      for (int s0 = 0; s0 < x.states; s0 += kStates) {
        if (kPositions && s0 == 0) {
          block.each([&](int) {});  // the last tile's kinds have been read
          block.each([&](int thread) { stage_kinds<kThreads>(x, place, begin, steps, thread, shared.kinds); });
        }
        const bool last = s0 + kStates >= x.states;
        block.each([&](int thread) {
          Registers& r = registers[thread];
          put_states<kPositions>(r.B, steps, shared.kinds, thread, shared.B);
          put_states<kPositions>(r.C, steps, shared.kinds, thread, shared.C);
          if (s0 == 0) {
            put_column<kPositions>(x, place, r.column, r.z, false, r.bias, steps, shared.kinds, thread, shared.input);
          }
          if (!last) {
            fetch(x, place, begin, s0 + kStates, thread, r);
          } else {
            fetch(x, place, begin + kTile, 0, thread, r);
            if (x.z.data != nullptr) fetch_rows(x.z, place, begin, steps, thread, r.z);
          }
        });
        block.each([&](int thread) {
          Registers& r = registers[thread];
          enter(p, place, begin, s0, thread, r);
          if (s0 == 0) {
            scan<false>(shared, steps, thread, r);
          } else {
            scan<true>(shared, steps, thread, r);
          }
          leave(p, place, begin + steps, s0, thread, r);
        });
        if (!last) continue;
        block.alone([&](int thread) { write(p, place, begin, steps, thread, registers[thread], shared); });
      }
    }
  }

  // What the tile at `begin` needs: nothing behind the end. The column with the first states.
  static HIPPODROME_KERNEL void fetch(const CudaScan& x, const CudaPlace& place, int64_t begin, int s0, int thread,
                                      Registers& r) {
    const int64_t rest = place.end - begin;
    if (rest <= 0) return;
    const int steps = static_cast<int>(rest < kTile ? rest : kTile);
    fetch_states(x.B, place, begin, steps, s0, x.states, thread, r.B);
    fetch_states(x.C, place, begin, steps, s0, x.states, thread, r.C);
    if (s0 > 0) return;
    fetch_rows(x.delta, place, begin, steps, thread, r.column.delta);
    fetch_rows(x.u, place, begin, steps, thread, r.column.u);
  }

  // h <- abar h + delta u B and sum_n C h, step by step.
  template <bool kAdd>
  static HIPPODROME_KERNEL void scan(const Shared& shared, int steps, int thread, Registers& r) {
    const int pair = pair_of(thread), half = half_of(thread);
    const auto step = [&](int i) {
      const PairInput<S> input = read_pair(shared.input + i * kThreads, pair);
      const HalfStates<S> B = read_half(shared.B + i * kStates, half), C = read_half(shared.C + i * kStates, half);
      Two<S>& y = reinterpret_cast<Two<S>*>(shared.y + (2 * i + half) * kThreads)[pair];
      Two<S> sum = move_pair(input, r.A, B, r.h, &C);
      if (kAdd) {
        const Two<S> before = y;
        sum.value[0] += before.value[0], sum.value[1] += before.value[1];
      }
      y = sum;
    };
    if (kPositions) {
      for_each_step<kStates>(shared.kinds, steps, &r.h.value[0][0], step);
    } else {  // those behind the end change nothing
      HIPPODROME_UNROLL_BY_TWO
      for (int i = 0; i < kTile; ++i) step(i);
    }
  }

  static HIPPODROME_KERNEL void write(const Params& p, const CudaPlace& place, int64_t begin, int steps, int thread,
                                      const Registers& r, const Shared& shared) {
    const CudaScan& x = p.scan;
    constexpr int kRows = kTile / 2;
    const int pair = pair_of(thread), first = first_row<kTile>(thread);
    Two<S> y[kRows];
    const auto for_all = [&](const auto& f) {
      HIPPODROME_UNROLL
      for (int i = 0; i < kRows; ++i) {
        HIPPODROME_UNROLL
        for (int c = 0; c < 2; ++c) f(i, c, y[i].value[c]);
      }
    };
    HIPPODROME_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const Two<S>* const sums = reinterpret_cast<const Two<S>*>(shared.y + 2 * (first + i) * kThreads) + pair;
      const Two<S> one = sums[0], two = sums[kThreads / 2];
      const PairInput<S> input = read_pair(shared.input + (first + i) * kThreads, pair);
      HIPPODROME_UNROLL
      for (int c = 0; c < 2; ++c) y[i].value[c] = (one.value[c] + two.value[c]) + r.skip.value[c] * input.of[c].u;
    }
    if (x.z.data != nullptr) for_all([&](int i, int c, S& to) { to *= cuda::silu(load(r.z[i].get(c))); });
    if (kPositions) {
      for_all([&](int i, int c, S& to) {
        if (!is_real<kPositions, kRows>(place, steps, shared.kinds, thread, i, c)) to = S(0);
      });
    }
    store_rows(y, x, place, begin, steps, thread, static_cast<T*>(p.y));
  }

  // The states before the tile at `begin`; the registers hold them already when all states fit.
  static HIPPODROME_KERNEL void enter(const Params& p, const CudaPlace& place, int64_t begin, int s0, int thread,
                                      Registers& r) {
    const CudaScan& x = p.scan;
    const int64_t b = place.batch;
    if (begin == place.begin || x.states > kStates) {
      load_pair_decays(x, place, s0, thread, r.A);
      if (begin == place.begin && x.segments.count == 1) {
        load_pair(static_cast<const S*>(x.initial_state), state_offset(x, b, 0) + s0, 1, x.states, x.states - s0, place,
                  thread, r.h);
      } else {
        load_pair(static_cast<const S*>(p.states), part_offset(x, b, place.segment, x.segments.count, s0), x.channels,
                  1, x.states - s0, place, thread, r.h);
      }
    }
    if (p.checkpoints != nullptr && begin % kChunk == 0) {
      store_pair(r.h, part_offset(x, b, begin / kChunk, chunk_count(x), s0), x.channels, 1, x.states - s0, place,
                 thread, static_cast<S*>(p.checkpoints));
    }
  }

  static HIPPODROME_KERNEL void leave(const Params& p, const CudaPlace& place, int64_t end, int s0, int thread,
                                      const Registers& r) {
    const CudaScan& x = p.scan;
    const int64_t b = place.batch;
    if (end == x.length) {
      store_pair(r.h, state_offset(x, b, 0) + s0, 1, x.states, x.states - s0, place, thread,
                 static_cast<S*>(p.last_state));
    } else if (x.states > kStates) {
      store_pair(r.h, part_offset(x, b, place.segment, x.segments.count, s0), x.channels, 1, x.states - s0, place,
                 thread, static_cast<S*>(p.states));
    }
  }
};

}  // namespace hippodrome::s6
