// A long sequence of few rows and channels: what its segments end with when they start from zeros, all at once, and
// then the states between them, one segment after another. A step's matrix does not change, so that M, its power by the
// tokens of a segment, is the same for all. As reals, with 2 N numbers for N complex ones, and with x⁰, λ⁰ from zeros,
//
//   x' = M x + x⁰,    λ = Mᵀ λ' + λ⁰;
//
// the segment that a sweep meets first, in backward the last and shorter one, starts from what enters the sequence.
// M's columns are what becomes of the unit vectors in a segment without inputs: 2 N sequences more, of a segment's
// length, by the same steps. Squarings would take fewer operations from a hundred or two tokens on, and a kernel more.
#pragma once

#include "architectures/ssm/dplr_scan/cuda_parts.h"

namespace hippodrome::dplr_scan_cuda {

// The last state of each segment into `before`, or with kUnits the columns of M into `passage`.
template <class L, bool kUnits>
struct SegmentStates {
  using S = typename L::S;
  using Sums = GroupSums<L, L::kRank>;
  static constexpr int kThreads = L::kThreads, kRank = L::kRank, kEntries = kTile * L::kChannels;
  static HIPPODROME_HOST_DEVICE Problem sequences(const Problem& p) {
    Problem q = p;
    if (kUnits) q.batch = 2 * p.states, q.length = p.segments.length, q.segments = {1, p.segments.length};
    return q;
  }
  static int64_t blocks(const Problem& p) { return L::places(sequences(p)); }
  static int64_t shared_bytes(const Problem&) { return shared_size<S>(kEntries) + shared_size<S>(Sums::kShared); }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Problem& p) {
    const Problem q = sequences(p);
    const Place at = L::place(q, block.index());
    S* const u = block.template shared<S>(kEntries);
    Sums sum_over_states{block.template shared<S>(Sums::kShared)};
    typename Block::template PerThread<Parameters<S, kRank>> parameters;
    typename Block::template PerThread<Modes<S>> x;
    typename Block::template PerThread<S> sums[kRank];
    block.alone([&](int thread) {
      const auto m = L::mine(q, at, thread);
      load_parameters(q, m, parameters[thread]);
      load(m, !kUnits && is_first(at) ? q.state : nullptr, row_of(q, at, m.channel), x[thread]);
      HIPPODROME_UNROLL
      for (int k = 0; k < kModes && kUnits; ++k) {
        if (at.row == 2 * m.n(k)) x[thread].re[k] = S(1);
        if (at.row == 2 * m.n(k) + 1) x[thread].im[k] = S(1);
      }
      HIPPODROME_UNROLL
      for (int r = 0; r < kRank; ++r) sums[r][thread] = read_out(parameters[thread].q[r], x[thread]);
    });
    sum_over_states(block, sums);
    for_each_tile(at, [&](int64_t begin, int count) {
      if constexpr (!kUnits) {
        block.each([](int) {});
        block.each([&](int thread) { load_tile<L>(q, at, q.u, 1, begin, count, thread, u); });
      }
      for (int i = 0; i < count; ++i) {
        block.alone([&](int thread) {
          S s[kRank];
          HIPPODROME_UNROLL
          for (int r = 0; r < kRank; ++r) s[r] = 2 * sums[r][thread];
          if constexpr (kUnits) {
            advance(parameters[thread], nullptr, s, 1, x[thread]);
          } else {
            advance(parameters[thread], u[i * L::kChannels + thread / L::kGroup], s, 1, x[thread]);
          }
          HIPPODROME_UNROLL
          for (int r = 0; r < kRank; ++r) sums[r][thread] = read_out(parameters[thread].q[r], x[thread]);
        });
        sum_over_states(block, sums);
      }
    });
    block.alone([&](int thread) {
      const auto m = L::mine(q, at, thread);
      store(m, x[thread], kUnits ? q.passage : q.before, segment_row_of(q, at, m.channel));
    });
  }
};

// The adjoint before the first token of each segment into `behind`.
template <class L>
struct SegmentAdjoints {
  using S = typename L::S;
  using Sums = GroupSums<L, L::kRank>;
  static constexpr int kThreads = L::kThreads, kRank = L::kRank, kEntries = kTile * L::kChannels;
  static int64_t blocks(const Problem& p) { return L::places(p); }
  static int64_t shared_bytes(const Problem&) { return shared_size<S>(kEntries) + shared_size<S>(Sums::kShared); }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Problem& p) {
    const Place at = L::place(p, block.index());
    S* const grad_y = block.template shared<S>(kEntries);
    Sums sum_over_states{block.template shared<S>(Sums::kShared)};
    typename Block::template PerThread<Parameters<S, kRank>> parameters;
    typename Block::template PerThread<Modes<S>> lambda;
    typename Block::template PerThread<S> sums[kRank];  // σ
    block.alone([&](int thread) {
      const auto m = L::mine(p, at, thread);
      load_parameters(p, m, parameters[thread]);
      load(m, is_last(p, at) ? p.grad_last_state : nullptr, row_of(p, at, m.channel), lambda[thread]);
    });
    for_each_tile_backwards(at, [&](int64_t begin, int count) {
      block.each([](int) {});
      block.each([&](int thread) { load_tile<L>(p, at, p.grad_y, 1, begin, count, thread, grad_y); });
      for (int i = count - 1; i >= 0; --i) {
        block.alone([&](int thread) {
          const int entry = i * L::kChannels + thread / L::kGroup;
          add_conjugate(parameters[thread].c, 2 * grad_y[entry], lambda[thread]);
          HIPPODROME_UNROLL
          for (int r = 0; r < kRank; ++r) sums[r][thread] = scalar_product(parameters[thread].w[r], lambda[thread]);
        });
        sum_over_states(block, sums);
        block.alone([&](int thread) {
          S sigma[kRank];
          HIPPODROME_UNROLL
          for (int r = 0; r < kRank; ++r) sigma[r] = sums[r][thread];
          retreat(parameters[thread], sigma, lambda[thread]);
        });
      }
    });
    block.alone([&](int thread) {
      const auto m = L::mine(p, at, thread);
      store(m, lambda[thread], p.behind, segment_row_of(p, at, m.channel));
    });
  }
};

// `before` from the segments' last states to the states that enter the segments, `behind` from their first adjoints to
// the adjoints from behind them: a block for each channel of a row, with M in shared memory and a thread for each real
// number of the state.
template <class S, bool kBackwards>
struct Carry {
  static constexpr int kThreads = 2 * static_cast<int>(kDplrScanCutStates);
  static HIPPODROME_HOST_DEVICE int64_t pitch(const Problem& p) { return 2 * p.states + 1; }  // no two rows in one bank
  static int64_t blocks(const Problem& p) { return p.batch * p.channels; }
  static int64_t shared_bytes(const Problem& p) {
    return shared_size<S>(2 * p.states * pitch(p)) + shared_size<S>(2 * p.states);
  }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Problem& p) {
    const int64_t row = block.index() / p.channels, channel = block.index() % p.channels, count = p.segments.count;
    const int numbers = static_cast<int>(2 * p.states), lines = static_cast<int>(pitch(p));
    S* const columns = block.template shared<S>(numbers * lines);
    S* const x = block.template shared<S>(numbers);
    typename Block::template PerThread<S> next;
    block.each([&](int thread) {
      for (int i = thread; i < numbers * numbers; i += kThreads) {
        const int64_t from = (i / numbers * p.channels + channel) * numbers + i % numbers;
        columns[i / numbers * lines + i % numbers] = static_cast<const S*>(p.passage)[from];
      }
      const void* const start = kBackwards ? p.grad_last_state : p.state;
      if (thread >= numbers) return;
      x[thread] = start != nullptr ? static_cast<const S*>(start)[block.index() * numbers + thread] : S(0);
    });
    for (int64_t done = 0; done < count; ++done) {
      const int64_t segment = row * count + (kBackwards ? count - 1 - done : done);
      S* const carries = static_cast<S*>(kBackwards ? p.behind : p.before) + (segment * p.channels + channel) * numbers;
      block.each([&](int thread) {
        if (thread >= numbers) return;
        next[thread] = carries[thread];
        carries[thread] = x[thread];
        if (done == 0) return;
        // M x, or Mᵀ λ.
        S* const line = columns + (kBackwards ? thread * lines : thread);
        const int apart = kBackwards ? 1 : lines;
        S sum(0), other(0);  // numbers is even
        for (int j = 0; j < numbers; j += 2) {
          sum += line[j * apart] * x[j];
          other += line[(j + 1) * apart] * x[j + 1];
        }
        next[thread] += sum + other;
      });
      block.each([&](int thread) {
        if (thread < numbers) x[thread] = next[thread];
      });
    }
  }
};

// Blocks of one channel have more states than are ever cut.
template <class L>
constexpr bool kIsCut = L::kGroup <= 32;

// What enters the segments, and what comes from behind them; nothing where there is one.
template <class L, class Launcher>
const char* find_entering(const Problem& p, const Launcher& launcher) {
  const char* error = nullptr;
  if constexpr (kIsCut<L>) {
    if (p.segments.count > 1) error = launcher.template run<SegmentStates<L, true>>(p);
    if (p.segments.count > 1 && error == nullptr) error = launcher.template run<SegmentStates<L, false>>(p);
    if (p.segments.count > 1 && error == nullptr) error = launcher.template run<Carry<typename L::S, false>>(p);
  }
  return error;
}
template <class L, class Launcher>
const char* find_from_behind(const Problem& p, const Launcher& launcher) {
  const char* error = nullptr;
  if constexpr (kIsCut<L>) {
    if (p.segments.count > 1) error = launcher.template run<SegmentAdjoints<L>>(p);
    if (p.segments.count > 1 && error == nullptr) error = launcher.template run<Carry<typename L::S, true>>(p);
  }
  return error;
}

}  // namespace hippodrome::dplr_scan_cuda
