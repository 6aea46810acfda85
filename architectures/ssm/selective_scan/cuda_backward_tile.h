// What a block of the selective scan's backward kernel (cuda_backward.h) does with a tile of a chunk's steps: forwards,
// keeping states in shared memory, and backwards.
#pragma once

#include "architectures/ssm/selective_scan/cuda_pair.h"

namespace hippodrome::s6 {

template <class T, bool kPositions>
struct BackwardTile {
  using Params = CudaBackward;
  using S = ScalarOf<T>;
  static constexpr int kThreads = kCudaChannels, kPairs = kThreads / 2;
  static constexpr int kStates = kCudaStates<S>, kHalf = kHalfStates<S>;
  static constexpr int kSteps = static_cast<int>(kChunk);
  static constexpr int kTile = kHalf;  // so that a tile's outputs fit where a state was kept
  static constexpr int kTiles = kSteps / kTile, kRows = kTile / 2;

  struct Registers {
    PairStates<S> A, carry, dA;  // carry: abar_{t+1} g_{t+1}
    Two<S> skip, bias, dD, dbias;
    // Of the tile to come, and of this one.
    FetchedColumn<T, kTile> column;
    FetchedStates<T, kTile> B, C;
    Fetched<T> dout[kRows], z[kRows];
    Fetched<T> delta_now[kRows], dout_now[kRows], z_now[kRows];
  };
  struct Shared {
    S *B, *C;             // [kTile][kStates]
    StepInput<S>* input;  // [kTile][kThreads]
    S* dy;                // [kTile][kThreads]
    Two<S>* kept;         // [kTiles - 1][2][kHalf][kPairs]: the state before each tile but the first
    Two<S>* history;      // [kTile][kStates][kPairs]: h of two channels, then their parts of dC and dB
    Two<S>*gB, *gA;       // [kTile][2][kPairs]: sum_n g B and sum_n g A p over half of the states
    int* kinds;           // [kSteps]
  };
  // The chunk and the states that are the turn's.
  struct Turn {
    int64_t begin;
    int steps, s0, count, tiles;
    bool first, last;

    HIPPODROME_HOST_DEVICE int steps_of(int tile) const {
      const int rest = steps - tile * kTile;
      return rest < kTile ? rest : kTile;
    }
    // A turn visits the tiles twice: forwards without the last, then backwards.
    HIPPODROME_HOST_DEVICE int visits() const { return 2 * tiles - 1; }
    HIPPODROME_HOST_DEVICE bool sweeps(int visit) const { return visit < tiles - 1; }
    HIPPODROME_HOST_DEVICE int tile_of(int visit) const { return sweeps(visit) ? visit : 2 * (tiles - 1) - visit; }
  };

  // The thread's channels in row i of [rows][kThreads].
  static HIPPODROME_HOST_DEVICE Two<S>& two_of(S* rows, int i, int thread) {
    return reinterpret_cast<Two<S>*>(rows + i * kThreads)[pair_of(thread)];
  }

  static HIPPODROME_KERNEL void load_checkpoint(const Params& p, const CudaPlace& place, const Turn& turn, int thread,
                                                PairStates<S>& h) {
    const CudaScan& x = p.scan;
    load_pair(static_cast<const S*>(p.checkpoints),
              part_offset(x, place.batch, turn.begin / kChunk, chunk_count(x), turn.s0), x.channels, 1, turn.count,
              place, thread, h);
  }
  // Where the thread's states before tile 1 + `slot` are, [kHalf][kPairs]. Nothing but the thread uses it until it has
  // read them.
  static HIPPODROME_HOST_DEVICE Two<S>* kept_of(const Shared& shared, int slot, int half) {
    return shared.kept + (slot * 2 + half) * kHalf * kPairs;
  }

  static HIPPODROME_KERNEL void sweep(int tile, int thread, const Registers& r, const Shared& shared,
                                      PairStates<S>& h) {
    const int pair = pair_of(thread), half = half_of(thread);
    const auto step = [&](int i) {
      move_pair(read_pair(shared.input + i * kThreads, pair), r.A, read_half(shared.B + i * kStates, half), h,
                static_cast<const HalfStates<S>*>(nullptr));
    };
    if (kPositions) {
      for_each_step<kStates>(kinds_of(shared, tile), kTile, &h.value[0][0], step);
    } else {
      HIPPODROME_UNROLL_BY_TWO
      for (int i = 0; i < kTile; ++i) step(i);
    }
    Two<S>* const to = kept_of(shared, tile, half) + pair;
    HIPPODROME_UNROLL
    for (int k = 0; k < kHalf; ++k) to[k * kPairs] = {{h.value[0][k], h.value[1][k]}};
  }

  // The state before the tile.
  static HIPPODROME_KERNEL void load_tile_state(const Params& p, const CudaPlace& place, const Turn& turn, int tile,
                                                int thread, const Shared& shared, PairStates<S>& h) {
    if (tile == 0) return load_checkpoint(p, place, turn, thread, h);
    const Two<S>* const from = kept_of(shared, tile - 1, half_of(thread)) + pair_of(thread);
    HIPPODROME_UNROLL
    for (int k = 0; k < kHalf; ++k) {
      const Two<S> state = from[k * kPairs];
      h.value[0][k] = state.value[0], h.value[1][k] = state.value[1];
    }
  }
  // The thread's place in a step's history for its state k.
  static HIPPODROME_HOST_DEVICE Two<S>& history_of(const Shared& shared, int i, int k, int thread) {
    return shared.history[(i * kStates + half_of(thread) * kHalf + k) * kPairs + pair_of(thread)];
  }
  // sum_n C h over half of the states, [2][kTile][kPairs]: where a state was kept that has been read.
  static HIPPODROME_HOST_DEVICE Two<S>* outputs_of(const Shared& shared, int tile) {
    return kept_of(shared, tile == 0 ? 0 : tile - 1, 0);
  }
  static HIPPODROME_HOST_DEVICE const int* kinds_of(const Shared& shared, int tile) {
    return kPositions ? shared.kinds + tile * kTile : nullptr;
  }

  // The states before each step of a tile, and the outputs, forwards; h is then the state behind it.
  static HIPPODROME_KERNEL void replay(const Params& p, const CudaPlace& place, const Turn& turn, int tile, int thread,
                                       const Registers& r, const Shared& shared, PairStates<S>& h) {
    const int pair = pair_of(thread), half = half_of(thread);
    load_tile_state(p, place, turn, tile, thread, shared, h);
    Two<S>* const outputs = outputs_of(shared, tile) + half * kTile * kPairs + pair;
    const auto step = [&](int i) {
      HIPPODROME_UNROLL
      for (int k = 0; k < kHalf; ++k) history_of(shared, i, k, thread) = {{h.value[0][k], h.value[1][k]}};
      if (kPositions && kinds_of(shared, tile)[i] == kStarts) clear_states<kStates>(&h.value[0][0]);
      const HalfStates<S> C = read_half(shared.C + i * kStates, half);
      outputs[i * kPairs] =
          move_pair(read_pair(shared.input + i * kThreads, pair), r.A, read_half(shared.B + i * kStates, half), h, &C);
    };
    HIPPODROME_UNROLL_BY_TWO
    for (int i = 0; i < (kPositions ? turn.steps_of(tile) : kTile); ++i) step(i);
  }

  // g from the last step of a tile to the first, `after` being the state behind it.
  static HIPPODROME_KERNEL void reverse(const Turn& turn, int tile, int thread, Registers& r, const Shared& shared,
                                        PairStates<S>& after) {
    const int pair = pair_of(thread), half = half_of(thread);
    const auto step = [&](int i) {
      const int kind = kPositions ? kinds_of(shared, tile)[i] : kContinues;
      if (kind == kPadding) {
        HIPPODROME_UNROLL
        for (int k = 0; k < kHalf; ++k) history_of(shared, i, k, thread) = {{S(0), S(0)}};
        return;
      }
      const PairInput<S> input = read_pair(shared.input + i * kThreads, pair);
      const Two<S> dy = two_of(shared.dy, i, thread);
      const HalfStates<S> B = read_half(shared.B + i * kStates, half), C = read_half(shared.C + i * kStates, half);
      Two<S> gB{{S(0), S(0)}}, gA{{S(0), S(0)}};  // A is scaled by log2 e
      HIPPODROME_UNROLL
      for (int k = 0; k < kHalf; ++k) {
        Two<S>& place = history_of(shared, i, k, thread);
        const Two<S> before = place;
        Two<S> sums{{S(0), S(0)}};  // of the two channels, in dC and dB
        HIPPODROME_UNROLL
        for (int c = 0; c < 2; ++c) {
          const S delta = input.of[c].delta, abar = cuda::exp2_of(delta * r.A.value[c][k]);
          const S g = dy.value[c] * C.value[k] + r.carry.value[c][k];
          const S entering = kPositions && kind == kStarts ? S(0) : before.value[c];
          const S carry = abar * g, by_decay = carry * entering;  // g p of op.h
          gB.value[c] += g * B.value[k];
          gA.value[c] += r.A.value[c][k] * by_decay;
          r.dA.value[c][k] += delta * by_decay;
          r.carry.value[c][k] = carry;
          sums.value[0] += dy.value[c] * after.value[c][k];
          sums.value[1] += delta * input.of[c].u * g;
          after.value[c][k] = before.value[c];
        }
        place = sums;
      }
      shared.gB[(i * 2 + half) * kPairs + pair] = gB;
      shared.gA[(i * 2 + half) * kPairs + pair] = gA;
      if (kind == kStarts) clear_states<kStates>(&r.carry.value[0][0]);
    };
    const int last = (kPositions ? turn.steps_of(tile) : kTile) - 1;
    if constexpr (sizeof(T) == 2) {
      HIPPODROME_UNROLL_BY_TWO
      for (int i = last; i >= 0; --i) step(i);
    } else {  // what is fetched of wider types leaves no registers for two steps
      HIPPODROME_UNROLL_BY_ONE
      for (int i = last; i >= 0; --i) step(i);
    }
  }

  // The block's partial dC and dB, [L, N] each, at a tile's steps and the turn's states.
  static HIPPODROME_KERNEL void sum_channels(const Params& p, const CudaPlace& place, const Turn& turn, int tile,
                                             int thread, const Shared& shared) {
    const CudaScan& x = p.scan;
    const int64_t blocks = cuda::ceil_div(x.channels / x.groups, kThreads);
    const int64_t block = (place.batch * x.groups + place.group) * blocks + place.block;
    for (int row = thread; row < turn.steps_of(tile) * kStates; row += kThreads) {
      const int n = row % kStates;
      if (n >= turn.count) continue;
      Two<S> sums[2] = {{{S(0), S(0)}}, {{S(0), S(0)}}};
      HIPPODROME_UNROLL
      for (int pair = 0; pair < kPairs; ++pair) {
        // Threads side by side have neighbouring rows: each in an order of its own, so that they read different banks.
        const Two<S> part = shared.history[row * kPairs + pair / 16 * 16 + (pair % 16 ^ n)];
        sums[pair % 2].value[0] += part.value[0];
        sums[pair % 2].value[1] += part.value[1];
      }
      const int64_t to = (block * x.length + turn.begin + tile * kTile + row / kStates) * x.states + turn.s0 + n;
      static_cast<S*>(p.C)[to] = sums[0].value[0] + sums[1].value[0];
      static_cast<S*>(p.B)[to] = sums[0].value[1] + sums[1].value[1];
    }
  }
};

}  // namespace hippodrome::s6
