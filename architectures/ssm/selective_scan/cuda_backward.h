// The backward kernel of the selective scan: a block is 64 channels of one row or segment, a thread two channels and
// half of the states (cuda_pair.h), chunk by chunk from the last. Nothing but the checkpoints is kept of forward.
// Within a chunk the thread runs forwards from the checkpoint and keeps the state before each of its tiles; then, tile
// by tile from the last, it runs forwards once more, keeping every state in shared memory, and backwards. Where it has
// read h it leaves what its two channels add to dC = sum_d dy h and dB = sum_d delta u g; then each of these is summed
// over the block's channels by one thread, in a fixed order, and each thread writes the gradients of its channels'
// inputs at half of the tile's steps.
//
// What limits it, counted as for the forward kernel: the instructions issued, some 550 a step and channel (95 to find
// the states before the tiles, 102 to replay a tile, 194 backwards, 50 to sum over channels, the rest for what comes
// and goes); 56 special functions take their unit 448 cycles. 75 KiB of shared memory let three blocks run on a
// multiprocessor of Hopper.
#pragma once

#include "architectures/ssm/selective_scan/cuda_backward_tile.h"
#include "architectures/ssm/selective_scan/cuda_gradients.h"

namespace hippodrome::s6 {

template <class T, bool kPositions>
struct BackwardKernel {
  using Params = CudaBackward;
  using Tile = BackwardTile<T, kPositions>;
  using S = typename Tile::S;
  using Registers = typename Tile::Registers;
  using Shared = typename Tile::Shared;
  using Turn = typename Tile::Turn;
  static constexpr int kThreads = Tile::kThreads, kPairs = Tile::kPairs, kStates = Tile::kStates;
  static constexpr int kSteps = Tile::kSteps, kTile = Tile::kTile, kTiles = Tile::kTiles, kRows = Tile::kRows;

  static int64_t blocks(const Params& p) { return cuda_blocks(p.scan, kThreads, p.scan.segments.count); }
  static int64_t shared_bytes(const Params&) {
    return 2 * cuda::shared_size<S>(kTile * kStates) + cuda::shared_size<StepInput<S>>(kTile * kThreads) +
           cuda::shared_size<S>(kTile * kThreads) + cuda::shared_size<Two<S>>((kTiles - 1) * kStates * kPairs) +
           cuda::shared_size<Two<S>>(kTile * kStates * kPairs) + 2 * cuda::shared_size<Two<S>>(kTile * kThreads) +
           (kPositions ? cuda::shared_size<int>(kSteps) : 0);
  }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Params& p) {
    const CudaScan& x = p.scan;
    const CudaPlace place = cuda_place(x, block.index(), kThreads, 0, x.segments.count);
    Shared shared{};
    shared.B = block.template shared<S>(kTile * kStates);
    shared.C = block.template shared<S>(kTile * kStates);
    shared.input = block.template shared<StepInput<S>>(kTile * kThreads);
    shared.dy = block.template shared<S>(kTile * kThreads);
    shared.kept = block.template shared<Two<S>>((kTiles - 1) * kStates * kPairs);
    shared.history = block.template shared<Two<S>>(kTile * kStates * kPairs);
    shared.gB = block.template shared<Two<S>>(kTile * kThreads);
    shared.gA = block.template shared<Two<S>>(kTile * kThreads);
    if (kPositions) shared.kinds = block.template shared<int>(kSteps);
    // [step][3][channel]
    S* const scratch =
        p.scratch != nullptr ? static_cast<S*>(p.scratch) + block.index() * kSteps * 3 * kThreads : nullptr;
    typename Block::template PerThread<Registers> registers;

    block.alone([&](int thread) {
      Registers& r = registers[thread];
      r.dD = r.dbias = {{S(0), S(0)}};
      r.skip = read_two_or_zero<S>(x.D, place, thread);
      r.bias = read_two_or_zero<S>(x.delta_bias, place, thread);
      HIPPODROME_UNROLL
      for (int i = 0; i < kRows; ++i) r.dout[i] = r.z[i] = {};
    });
    const int64_t first_chunk = place.begin / kChunk;
    for (int64_t chunk = cuda::ceil_div(place.end, kChunk) - 1; chunk >= first_chunk; --chunk) {
      Turn turn;
      turn.begin = chunk * kChunk;
      turn.steps = static_cast<int>(place.end - turn.begin < kChunk ? place.end - turn.begin : kChunk);
      turn.tiles = (turn.steps + kTile - 1) / kTile;
      for (turn.s0 = 0; turn.s0 < x.states; turn.s0 += kStates) {
        turn.count = static_cast<int>(x.states) - turn.s0;
        turn.first = turn.s0 == 0;
        turn.last = turn.count <= kStates;
        if (kPositions) {
          block.each([&](int) {});  // the last turn's kinds have been read
          block.each(
              [&](int thread) { stage_kinds<kThreads>(x, place, turn.begin, turn.steps, thread, shared.kinds); });
        }
        block.alone([&](int thread) {
          fetch(p, place, turn, 0, thread, registers[thread]);
          enter(p, place, turn, thread, registers[thread]);
        });
        typename Block::template PerThread<PairStates<S>> swept;
        for (int visit = 0; visit < turn.visits(); ++visit) {
          const int tile = turn.tile_of(visit);
          const bool sweeps = turn.sweeps(visit);
          block.each([&](int thread) {
            put(p, place, turn, tile, sweeps, thread, registers[thread], shared);
            if (visit + 1 < turn.visits()) fetch(p, place, turn, visit + 1, thread, registers[thread]);
          });
          if (sweeps) {
            block.each([&](int thread) {
              if (visit == 0) Tile::load_checkpoint(p, place, turn, thread, swept[thread]);
              Tile::sweep(tile, thread, registers[thread], shared, swept[thread]);
            });
            continue;
          }
          block.each([&](int thread) {
            PairStates<S> h;
            Tile::replay(p, place, turn, tile, thread, registers[thread], shared, h);
            Tile::reverse(turn, tile, thread, registers[thread], shared, h);
          });
          block.alone([&](int thread) {
            Tile::sum_channels(p, place, turn, tile, thread, shared);
            write(p, place, turn, tile, thread, registers[thread], shared, scratch);
          });
        }
        block.alone([&](int thread) { leave(p, place, turn, thread, registers[thread]); });
      }
    }
    // The two halves of the rows together.
    block.each([&](int) {});  // the last tile's sums have been read
    block.each([&](int thread) {
      shared.gB[thread] = registers[thread].dD;
      shared.gA[thread] = registers[thread].dbias;
    });
    block.alone([&](int thread) {
      if (thread >= place.count) return;
      const int64_t at = (place.batch * x.segments.count + place.segment) * x.channels + place.channel(thread);
      const S *const dD = reinterpret_cast<const S*>(shared.gB), *const dbias = reinterpret_cast<const S*>(shared.gA);
      static_cast<S*>(p.D)[at] = dD[thread] + dD[kThreads + thread];
      static_cast<S*>(p.delta_bias)[at] = dbias[thread] + dbias[kThreads + thread];
    });
  }

  // ---- what comes in ----

  static HIPPODROME_KERNEL void fetch(const Params& p, const CudaPlace& place, const Turn& turn, int visit, int thread,
                                      Registers& r) {
    const CudaScan& x = p.scan;
    const int tile = turn.tile_of(visit), steps = turn.steps_of(tile);
    const int64_t t = turn.begin + tile * kTile;
    fetch_rows(x.delta, place, t, steps, thread, r.column.delta);
    fetch_rows(x.u, place, t, steps, thread, r.column.u);
    fetch_states(x.B, place, t, steps, turn.s0, x.states, thread, r.B);
    if (turn.sweeps(visit)) return;
    fetch_states(x.C, place, t, steps, turn.s0, x.states, thread, r.C);
    if (p.grad_y.data != nullptr) fetch_rows(p.grad_y, place, t, steps, thread, r.dout);
    if (x.z.data != nullptr) fetch_rows(x.z, place, t, steps, thread, r.z);
  }

  static HIPPODROME_KERNEL void put(const Params& p, const CudaPlace& place, const Turn& turn, int tile, bool sweeps,
                                    int thread, Registers& r, const Shared& shared) {
    const CudaScan& x = p.scan;
    const int* const kinds = Tile::kinds_of(shared, tile);
    const int steps = turn.steps_of(tile);
    put_states<kPositions>(r.B, steps, kinds, thread, shared.B);
    put_column<kPositions>(x, place, r.column, r.z, false, r.bias, steps, kinds, thread, shared.input);
    if (sweeps) return;
    put_states<kPositions>(r.C, steps, kinds, thread, shared.C);
    Two<S> dy[kRows];
    const auto for_all = [&](const auto& f) {
      HIPPODROME_UNROLL
      for (int i = 0; i < kRows; ++i) {
        HIPPODROME_UNROLL
        for (int c = 0; c < 2; ++c) f(i, c, dy[i].value[c]);
      }
    };
    for_all([&](int i, int c, S& to) { to = load(r.dout[i].get(c)); });
    if (x.z.data != nullptr) for_all([&](int i, int c, S& to) { to *= cuda::silu(load(r.z[i].get(c))); });
    if (has_gaps<kPositions>(place, steps, kTile)) {
      for_all([&](int i, int c, S& to) {
        if (!is_real<kPositions, kRows>(place, steps, kinds, thread, i, c)) to = S(0);
      });
    }
    HIPPODROME_UNROLL
    for (int i = 0; i < kRows; ++i) {
      r.delta_now[i] = r.column.delta[i], r.dout_now[i] = r.dout[i], r.z_now[i] = r.z[i];
      Tile::two_of(shared.dy, first_row<kTile>(thread) + i, thread) = dy[i];
    }
  }

  // The gradients of the thread's rows of a tile; with states to come, their sums so far.
  static HIPPODROME_KERNEL void write(const Params& p, const CudaPlace& place, const Turn& turn, int tile, int thread,
                                      Registers& r, const Shared& shared, S* scratch) {
    const CudaScan& x = p.scan;
    const int steps = turn.steps_of(tile), first = first_row<kTile>(thread), pair = pair_of(thread);
    const Two<S>* const outputs = Tile::outputs_of(shared, tile) + pair;
    const auto sum = [](const Two<S>& a, const Two<S>& b) {
      return Two<S>{{a.value[0] + b.value[0], a.value[1] + b.value[1]}};
    };
    Two<S> gB[kRows], gA[kRows], y[kRows];
    HIPPODROME_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const int row = first + i;
      gB[i] = sum(shared.gB[2 * row * kPairs + pair], shared.gB[(2 * row + 1) * kPairs + pair]);
      gA[i] = sum(shared.gA[2 * row * kPairs + pair], shared.gA[(2 * row + 1) * kPairs + pair]);
      y[i] = sum(outputs[row * kPairs], outputs[(kTile + row) * kPairs]);
    }
    if (!turn.first || !turn.last) {
      HIPPODROME_UNROLL
      for (int i = 0; i < kRows; ++i) {
        S* const rows = scratch + (tile * kTile + first + i) * 3 * kThreads;
        if (!turn.first) {
          gB[i] = sum(Tile::two_of(rows, 0, thread), gB[i]);
          gA[i] = sum(Tile::two_of(rows, 1, thread), gA[i]);
          y[i] = sum(Tile::two_of(rows, 2, thread), y[i]);
        }
        if (!turn.last) {
          Tile::two_of(rows, 0, thread) = gB[i], Tile::two_of(rows, 1, thread) = gA[i],
                                Tile::two_of(rows, 2, thread) = y[i];
        }
      }
      if (!turn.last) return;
    }
    Two<S> du[kRows], ddelta[kRows], dz[kRows] = {};
    const auto for_all = [&](const auto& f) {
      HIPPODROME_UNROLL
      for (int i = 0; i < kRows; ++i) {
        HIPPODROME_UNROLL
        for (int c = 0; c < 2; ++c) f(i, c);
      }
    };
    HIPPODROME_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const PairInput<S> input = read_pair(shared.input + (first + i) * kThreads, pair);
      const Two<S> dy = Tile::two_of(shared.dy, first + i, thread);
      HIPPODROME_UNROLL
      for (int c = 0; c < 2; ++c) {
        const S u = input.of[c].u;
        du[i].value[c] = r.skip.value[c] * dy.value[c] + input.of[c].delta * gB[i].value[c];
        ddelta[i].value[c] = u * gB[i].value[c] + S(1.0 / cuda::kLog2E) * gA[i].value[c];
        y[i].value[c] += r.skip.value[c] * u;
        r.dD.value[c] += dy.value[c] * u;
      }
    }
    if (x.delta_softplus) {
      for_all([&](int i, int c) {
        ddelta[i].value[c] *= cuda::softplus_slope(load(r.delta_now[i].get(c)) + r.bias.value[c]);
      });
    }
    if (p.z != nullptr) {
      for_all([&](int i, int c) {
        dz[i].value[c] = load(r.dout_now[i].get(c)) * y[i].value[c] * cuda::silu_slope(load(r.z_now[i].get(c)));
      });
    }
    if (has_gaps<kPositions>(place, steps, kTile)) {
      for_all([&](int i, int c) {
        if (is_real<kPositions, kRows>(place, steps, Tile::kinds_of(shared, tile), thread, i, c)) return;
        du[i].value[c] = ddelta[i].value[c] = dz[i].value[c] = S(0);
      });
    }
    for_all([&](int i, int c) { r.dbias.value[c] += ddelta[i].value[c]; });
    const int64_t t = turn.begin + tile * kTile;
    store_rows(du, x, place, t, steps, thread, static_cast<T*>(p.u));
    store_rows(ddelta, x, place, t, steps, thread, static_cast<T*>(p.delta));
    if (p.z != nullptr) store_rows(dz, x, place, t, steps, thread, static_cast<T*>(p.z));
  }

  // ---- from chunk to chunk ----

  // A, the carried gradient and dA so far; the registers hold them already when all states fit.
  static HIPPODROME_KERNEL void enter(const Params& p, const CudaPlace& place, const Turn& turn, int thread,
                                      Registers& r) {
    const CudaScan& x = p.scan;
    const int64_t b = place.batch;
    const bool fresh = turn.begin + turn.steps == place.end;
    if (!fresh && x.states <= kStates) return;
    load_pair_decays(x, place, turn.s0, thread, r.A);
    const int64_t at = part_offset(x, b, place.segment, x.segments.count, turn.s0);
    load_pair(fresh ? nullptr : static_cast<const S*>(p.A), at, x.channels, 1, turn.count, place, thread, r.dA);
    if (fresh && x.segments.count == 1) {
      load_pair(static_cast<const S*>(p.grad_last_state), state_offset(x, b, 0) + turn.s0, 1, x.states, turn.count,
                place, thread, r.carry);
    } else {
      load_pair(static_cast<const S*>(p.carries), at, x.channels, 1, turn.count, place, thread, r.carry);
    }
  }
  static HIPPODROME_KERNEL void leave(const Params& p, const CudaPlace& place, const Turn& turn, int thread,
                                      const Registers& r) {
    const CudaScan& x = p.scan;
    const int64_t b = place.batch, at = part_offset(x, b, place.segment, x.segments.count, turn.s0);
    const bool done = turn.begin == place.begin;
    if (done || x.states > kStates) {
      store_pair(r.dA, at, x.channels, 1, turn.count, place, thread, static_cast<S*>(p.A));
    }
    if (!done && x.states > kStates) {
      store_pair(r.carry, at, x.channels, 1, turn.count, place, thread, static_cast<S*>(p.carries));
    }
    if (turn.begin == 0 && p.initial_state != nullptr) {
      store_pair(r.carry, state_offset(x, b, 0) + turn.s0, 1, x.states, turn.count, place, thread,
                 static_cast<S*>(p.initial_state));
    }
  }
};

}  // namespace hippodrome::s6
