// SSD on the GPU. A few steps without gradients are taken one after another (cuda_steps.h); else the sequence goes in
// units of up to 256 steps (cuda.h), in four launches.
//
//   StepFacts     per unit and head: step sizes, sums of them, decays; and which sequence a step belongs to
//   UnitState     what the inputs of a unit leave in the state behind it: a product over the unit's steps
//   Carry         from unit to unit: the state before each
//   MaskedProduct the outputs of a tile of steps, from the state before the unit and the inputs inside it
//                 (cuda_masked_product.h)
//
// All but Carry have a block for every unit, head and tile, so that a long sequence of one batch row fills a GPU, too.
// For L steps and H heads the states are 4 H N P L / 256 bytes, written twice and read twice: at P = 64 and N = 128
// half of the traffic. Tensor cores multiply bfloat16 and float16 (tile_product.h), for which the states and the masked
// products of C and B are rounded to these types; sums, states in memory and decays are float32.
//
// Padding has step size zero and is read as zeros; decays across the start of a sequence are masked.
#pragma once

#include "architectures/ssm/ssd/cuda_masked_product.h"
#include "architectures/ssm/ssd/cuda_steps.h"
#include "architectures/ssm/ssd/cuda_tiles.h"

namespace hippodrome::ssd_kernel::gpu {

// Inclusive sums over the threads of a block, in shared memory: values[i] += values[i - 1] + ... in a fixed order.
template <int kThreads, class Block, class V>
HIPPODROME_KERNEL void running_sums(Block& block, V* values) {
  typename Block::template PerThread<V> other;
  for (int distance = 1; distance < kThreads; distance *= 2) {
    block.each([&](int thread) { other[thread] = thread >= distance ? values[thread - distance] : V(0); });
    block.each([&](int thread) { values[thread] += other[thread]; });
  }
}

// One block is one unit of one head, one thread one step.
template <class S>
struct StepFacts {
  static constexpr int kThreads = kMaxUnit;
  static int64_t blocks(const CudaParams& p) { return p.batch * units_of(p).count * p.heads; }
  static int64_t shared_bytes(const CudaParams&) {
    return cuda::shared_size<double>(kThreads) + cuda::shared_size<int32_t>(kThreads);
  }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const CudaParams& p) {
    const Units units = units_of(p);
    const int64_t h = block.index() % p.heads, unit = block.index() / p.heads % units.count,
                  b = block.index() / p.heads / units.count;
    const int64_t begin = units.begin(unit), end = units.end(unit);
    double* const time = block.template shared<double>(kThreads);
    int32_t* const starts = block.template shared<int32_t>(kThreads);
    typename Block::template PerThread<S> size;
    typename Block::template PerThread<int> real;

    block.each([&](int thread) {
      const int64_t t = begin + thread, position = t < end ? position_of(p, b, t) : -1;
      real[thread] = position >= 0;
      size[thread] = position >= 0 ? step_size<S>(p, b, t, h).size : S(0);
      time[thread] = static_cast<double>(size[thread]);
      starts[thread] = position == 0 ? 1 : 0;
    });
    running_sums<kThreads>(block, time);
    running_sums<kThreads>(block, starts);
    block.alone([&](int thread) {
      const int64_t t = begin + thread;
      if (t >= end) return;
      const S A = static_cast<const S*>(p.A)[h];
      const double last = time[kThreads - 1];
      const S high = static_cast<S>(time[thread]);
      S* const facts = static_cast<S*>(p.steps);
      facts[step_index(p, kStepSize, b, h, t)] = size[thread];
      facts[step_index(p, kTimeHigh, b, h, t)] = high;
      facts[step_index(p, kTimeLow, b, h, t)] = static_cast<S>(time[thread] - static_cast<double>(high));
      const bool first_sequence = real[thread] && starts[thread] == 0;
      const bool last_sequence = real[thread] && starts[thread] == starts[kThreads - 1];
      facts[step_index(p, kDecayIn, b, h, t)] = first_sequence ? cuda::exp_of(A * high) : S(0);
      facts[step_index(p, kDecayOut, b, h, t)] =
          last_sequence ? cuda::exp_of(A * static_cast<S>(last - time[thread])) : S(0);
      if (h == 0) p.sequences[b * p.length + t] = real[thread] ? starts[thread] : ~starts[thread];
      if (thread == 0) {
        static_cast<S*>(p.unit_decays)[unit_index(p, units, b, unit, h)] =
            starts[kThreads - 1] == 0 ? cuda::exp_of(A * static_cast<S>(last)) : S(0);
      }
    });
  }
};

// A state [N, P] that is a sum over the steps of a unit of exp(s_Q - s_j) dt_j B_j x_j^T, or, for the gradient of the
// state before the unit (Params is CudaGradients), of exp(s_i) C_i dy_i^T. One block is one tile of it.
template <class T, int kSide, class Params>
struct UnitState {
  using S = ScalarOf<T>;
  using Tile = cuda::TileProduct<T, kSide>;
  static constexpr bool kGradient = std::is_same<Params, CudaGradients>::value;
  static constexpr int kThreads = Tile::kThreads;
  static int64_t blocks(const Params& params) {
    const CudaParams& p = inputs_of(params);
    return p.batch * units_of(p).count * p.heads * ceil_div(p.states, kSide) * ceil_div(p.head_size, kSide);
  }
  static int64_t shared_bytes(const Params&) {
    return 2 * cuda::shared_size<T>(Tile::kTileSize) + cuda::shared_size<S>(Tile::kSumTileSize) +
           cuda::shared_size<StepTile<S, kSide>>(1);
  }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Params& params) {
    const CudaParams& p = inputs_of(params);
    const Units units = units_of(p);
    const int64_t across = ceil_div(p.head_size, kSide), down = ceil_div(p.states, kSide);
    const int c = static_cast<int>(block.index() % across * kSide),
              n = static_cast<int>(block.index() / across % down * kSide);
    const int64_t place = block.index() / across / down;  // unit_index
    const int64_t unit = place / p.heads % units.count, b = place / p.heads / units.count;
    const int h = static_cast<int>(place % p.heads), group = static_cast<int>(h / (p.heads / p.groups));

    T* const left = block.template shared<T>(Tile::kTileSize);
    T* const right = block.template shared<T>(Tile::kTileSize);
    S* const result = block.template shared<S>(Tile::kSumTileSize);
    StepTile<S, kSide>& steps = *block.template shared<StepTile<S, kSide>>(1);
    typename Block::template PerThread<typename Tile::Sums> sums;
    Rows<T> states, channels;
    if constexpr (kGradient) {
      states = rows_of<T>(p.C, b, group, p.states);
      channels = rows_of<T>(output_gradient(params), b, h, p.head_size);
    } else {
      states = rows_of<T>(p.B, b, group, p.states);
      channels = rows_of<T>(p.x, b, h, p.head_size);
    }

    block.alone([&](int thread) { Tile::clear(sums[thread]); });
    const int64_t begin = units.begin(unit);
    states.skip(begin), channels.skip(begin);
    const int length = static_cast<int>(units.end(unit) - begin);
    for (int step = 0; step < length; step += kSide) {
      block.each([&](int thread) {
        load_steps<S, kSide>(thread, kThreads, p, b, h, begin + step, begin + length, kGradient ? kDecayIn : kDecayOut,
                             steps);
        // The thread that loads a step's facts weighs them.
        for (int i = thread; i < kSide && !kGradient; i += kThreads) steps.edge[i] *= steps.size[i];
      });
      block.each([&](int thread) {
        load_rows<T, kSide>(thread, states, step, n, steps.sequence, nullptr, left);
        load_rows<T, kSide>(thread, channels, step, c, steps.sequence, steps.edge, right);
      });
      block.each([&](int thread) {
        Tile::template add<cuda::Stored::kByColumn, cuda::Stored::kByRow>(thread, left, right, sums[thread]);
      });
    }
    block.each([&](int thread) { Tile::store_sums(thread, sums[thread], result); });
    block.alone([&](int thread) {
      S* const to = static_cast<S*>(params.unit_states) + place * p.states * p.head_size;
      for (int at = thread; at < kSide * kSide; at += kThreads) {
        const int64_t row = n + at / kSide, column = c + at % kSide;
        if (row < p.states && column < p.head_size)
          to[row * p.head_size + column] = result[at / kSide * Tile::kSumRow + at % kSide];
      }
    });
  }
};

// Turns what each unit adds to the state into the state before it, from first to last; one thread is one element.
template <class S>
struct Carry {
  static constexpr int kThreads = 128;
  static HIPPODROME_HOST_DEVICE int64_t elements(const CudaParams& p) {
    return p.batch * p.heads * p.states * p.head_size;
  }
  static int64_t blocks(const CudaParams& p) { return ceil_div(elements(p), kThreads); }
  static int64_t shared_bytes(const CudaParams&) { return 0; }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const CudaParams& p) {
    const Units units = units_of(p);
    block.alone([&](int thread) {
      const int64_t element = block.index() * kThreads + thread;
      if (element >= elements(p)) return;
      const int64_t size = p.states * p.head_size, place = element % size, head = element / size;
      const int64_t b = head / p.heads, h = head % p.heads;
      // [N, P] in the work space, [P, N] outside.
      const int64_t outside = head * size + place % p.head_size * p.states + place / p.head_size;
      S state = p.initial_state != nullptr ? static_cast<const S*>(p.initial_state)[outside] : S(0);
      S* const of_unit = static_cast<S*>(p.unit_states) + unit_index(p, units, b, 0, h) * size + place;
      const S* const decay = static_cast<const S*>(p.unit_decays) + unit_index(p, units, b, 0, h);
      constexpr int kAhead = 4;
      for (int64_t first = 0; first < units.count; first += kAhead) {
        S added[kAhead];
        HIPPODROME_UNROLL
        for (int i = 0; i < kAhead; ++i)
          added[i] = first + i < units.count ? of_unit[(first + i) * p.heads * size] : S(0);
        HIPPODROME_UNROLL
        for (int i = 0; i < kAhead; ++i) {
          const int64_t unit = first + i;
          if (unit >= units.count) break;
          of_unit[unit * p.heads * size] = state;
          if (p.checkpoints != nullptr && unit % units.per_chunk == 0) {
            const int64_t chunk = unit / units.per_chunk;
            static_cast<S*>(p.checkpoints)[((b * ceil_div(p.length, p.chunk) + chunk) * p.heads + h) * size + place] =
                state;
          }
          const S whole = decay[unit * p.heads];
          state = whole == S(0) ? added[i] : whole * state + added[i];  // what a reset cuts off may be no number
        }
      }
      if (p.last_state != nullptr) static_cast<S*>(p.last_state)[outside] = state;
    });
  }
};

// The states before the units, for either pass.
template <class T, int kSide, class Launcher>
const char* run_unit_states(const CudaParams& p, const Launcher& launcher) {
  using S = ScalarOf<T>;
  if (const char* error = launcher.template run<UnitState<T, kSide, CudaParams>>(p)) return error;
  return launcher.template run<Carry<S>>(p);
}

// `kSideForTests` overrides the side of the tiles.
template <int kSideForTests = 0, class Launcher>
const char* run_ssd_forward(const CudaParams& p, const Launcher& launcher) {
  return cuda::with_element(p.type, [&](auto tag) -> const char* {
    using T = typename decltype(tag)::Type;
    constexpr int kSide = kSideForTests != 0 ? kSideForTests : kSideOf<T>;
    if (!p.keeps_states && p.length <= kSequentialSteps) {
      return p.states <= 128 ? launcher.template run<SequentialOutput<T, 4>>(p)
                             : launcher.template run<SequentialOutput<T, kMaxStates / 32>>(p);
    }
    if (const char* error = launcher.template run<StepFacts<ScalarOf<T>>>(p)) return error;
    if (const char* error = run_unit_states<T, kSide>(p, launcher)) return error;
    return launcher.template run<MaskedProduct<T, kSide, Result::kOutput>>(p);
  });
}

}  // namespace hippodrome::ssd_kernel::gpu
