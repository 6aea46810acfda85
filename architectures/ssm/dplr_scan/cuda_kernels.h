// The CUDA kernels of the diagonal-plus-low-rank scan, in the frame of core/cuda/block.h, and which of them a call
// launches.
//
// The states of a channel meet only in s and σ (op.h), R numbers a token. Forward keeps s, and backward's sweep for λ
// keeps σ; given both, every state is a diagonal scan of its own, and a last sweep forwards finds the gradients that
// need x and λ at once without either being stored. With p = ∂x/∂a at given s, p_t = a p_{t-1} + x_{t-1},
//
//   ∂a = Σ 2 ∂y_t (c p_t)* + Σ_r 2 σ_{t,r} (q_r p_{t-1})* + ∂x_L p*_L
//
// Of a segment, x_L is the state behind it, and p starts from zero: what came before does not depend on the segment's
// a.
#pragma once

#include "architectures/ssm/dplr_scan/cuda_segments.h"

namespace hippodrome::dplr_scan_cuda {

template <class L>
struct Forward {
  using S = typename L::S;
  using Sums = GroupSums<L, 1 + L::kRank>;
  static constexpr int kThreads = L::kThreads, kRank = L::kRank, kEntries = kTile * L::kChannels;
  static int64_t blocks(const Problem& p) { return L::places(p); }
  static int64_t shared_bytes(const Problem&) {
    return 2 * shared_size<S>(kEntries) + shared_size<S>(kRank * kEntries) + shared_size<S>(Sums::kShared) +
           shared_size<int>(kTile);
  }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const DplrScanForwardCuda& p) {
    const Place at = L::place(p, block.index());
    S* const u = block.template shared<S>(kEntries);
    S* const y = block.template shared<S>(kEntries);
    S* const readouts = block.template shared<S>(kRank * kEntries);
    Sums sum_over_states{block.template shared<S>(Sums::kShared)};
    int* const codes = block.template shared<int>(kTile);
    typename Block::template PerThread<Parameters<S, kRank>> parameters;
    typename Block::template PerThread<Modes<S>> x;
    typename Block::template PerThread<S> sums[1 + kRank];  // of c x and q x
    block.alone([&](int thread) {
      const auto m = L::mine(p, at, thread);
      load_parameters(p, m, parameters[thread]);
      load(m, entering(p), segment_row_of(p, at, m.channel), x[thread]);
      sums[kRank][thread] = S(0);
      HIPPODROME_UNROLL
      for (int r = 0; r < kRank; ++r) sums[r][thread] = read_out(parameters[thread].q[r], x[thread]);
    });
    sum_over_states(block, sums);
    for_each_tile(at, [&](int64_t begin, int count) {
      block.each([&](int thread) {
        load_tile<L>(p, at, p.u, 1, begin, count, thread, u);
        load_codes(p, at, begin, count, thread, codes);
      });
      for (int i = 0; i < count; ++i) {
        const int code = codes[i];
        if (code == kPadding) continue;
        block.alone([&](int thread) {
          const int entry = i * L::kChannels + thread / L::kGroup;
          if (code == kFresh) set_zero(x[thread]);
          S s[kRank];
          HIPPODROME_UNROLL
          for (int r = 0; r < kRank; ++r) {
            s[r] = code == kFresh ? S(0) : 2 * sums[r][thread];
            if (thread % L::kGroup == 0) readouts[r * kEntries + entry] = s[r];
          }
          advance(parameters[thread], u[entry], s, 1, x[thread]);
          HIPPODROME_UNROLL
          for (int r = 0; r < kRank; ++r) sums[r][thread] = read_out(parameters[thread].q[r], x[thread]);
          sums[kRank][thread] = read_out(parameters[thread].c, x[thread]);
        });
        sum_over_states(block, sums);
        block.alone([&](int thread) {
          if (thread % L::kGroup == 0) y[i * L::kChannels + thread / L::kGroup] = 2 * sums[kRank][thread];
        });
      }
      block.each([](int) {});
      block.each([&](int thread) {
        store_tile<L>(p, at, y, codes, 1, begin, count, thread, p.y);
        if (p.readouts != nullptr) store_tile<L>(p, at, readouts, codes, kRank, begin, count, thread, p.readouts);
      });
    });
    block.alone([&](int thread) {
      const auto m = L::mine(p, at, thread);
      if (is_last(p, at)) store(m, x[thread], p.last_state, row_of(p, at, m.channel));
    });
  }
};

// ∂u, ∂b, ∂w and the initial state's gradient, and σ.
template <class L>
struct Adjoints {
  using S = typename L::S;
  using Sums = GroupSums<L, 1 + L::kRank>;
  static constexpr int kThreads = L::kThreads, kRank = L::kRank, kEntries = kTile * L::kChannels;
  static int64_t blocks(const Problem& p) { return L::places(p); }
  static int64_t shared_bytes(const Problem&) {
    return 3 * shared_size<S>(kEntries) + 2 * shared_size<S>(kRank * kEntries) + shared_size<S>(Sums::kShared) +
           shared_size<int>(kTile);
  }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const DplrScanBackwardCuda& p) {
    const Place at = L::place(p, block.index());
    S* const u = block.template shared<S>(kEntries);
    S* const grad_y = block.template shared<S>(kEntries);
    S* const grad_u = block.template shared<S>(kEntries);
    S* const readouts = block.template shared<S>(kRank * kEntries);
    S* const sigma = block.template shared<S>(kRank * kEntries);
    Sums sum_over_states{block.template shared<S>(Sums::kShared)};
    int* const codes = block.template shared<int>(kTile);
    typename Block::template PerThread<Parameters<S, kRank>> parameters;
    typename Block::template PerThread<Modes<S>> lambda, grad_b, grad_w[kRank];
    typename Block::template PerThread<S> sums[1 + kRank];  // σ and ∂u
    block.alone([&](int thread) {
      const auto m = L::mine(p, at, thread);
      load_parameters(p, m, parameters[thread]);
      load(m, from_behind(p), segment_row_of(p, at, m.channel), lambda[thread]);
      set_zero(grad_b[thread]);
      HIPPODROME_UNROLL
      for (int r = 0; r < kRank; ++r) set_zero(grad_w[r][thread]);
    });
    for_each_tile_backwards(at, [&](int64_t begin, int count) {
      block.each([&](int thread) {
        load_tile<L>(p, at, p.u, 1, begin, count, thread, u);
        load_tile<L>(p, at, p.grad_y, 1, begin, count, thread, grad_y);
        load_tile<L>(p, at, p.readouts, kRank, begin, count, thread, readouts);
        load_codes(p, at, begin, count, thread, codes);
      });
      for (int i = count - 1; i >= 0; --i) {
        const int code = codes[i];
        if (code == kPadding) continue;
        block.alone([&](int thread) {
          const int entry = i * L::kChannels + thread / L::kGroup;
          add_conjugate(parameters[thread].c, 2 * grad_y[entry], lambda[thread]);
          add(lambda[thread], u[entry], grad_b[thread]);
          HIPPODROME_UNROLL
          for (int r = 0; r < kRank; ++r) {
            add(lambda[thread], readouts[r * kEntries + entry], grad_w[r][thread]);
            sums[r][thread] = scalar_product(parameters[thread].w[r], lambda[thread]);
          }
          sums[kRank][thread] = scalar_product(parameters[thread].b, lambda[thread]);
        });
        sum_over_states(block, sums);
        block.alone([&](int thread) {
          const int entry = i * L::kChannels + thread / L::kGroup;
          S of_token[kRank];
          HIPPODROME_UNROLL
          for (int r = 0; r < kRank; ++r) of_token[r] = sums[r][thread];
          retreat(parameters[thread], of_token, lambda[thread]);
          if (code == kFresh) set_zero(lambda[thread]);
          if (thread % L::kGroup != 0) return;
          grad_u[entry] = sums[kRank][thread];
          HIPPODROME_UNROLL
          for (int r = 0; r < kRank; ++r) sigma[r * kEntries + entry] = of_token[r];
        });
      }
      block.each([](int) {});
      block.each([&](int thread) {
        store_tile<L>(p, at, grad_u, codes, 1, begin, count, thread, p.grad_u);
        store_tile<L>(p, at, sigma, codes, kRank, begin, count, thread, p.sigma);
      });
    });
    block.alone([&](int thread) {
      const auto m = L::mine(p, at, thread);
      const int64_t row = segment_row_of(p, at, m.channel);
      if (is_first(at)) store(m, lambda[thread], p.grad_state, row_of(p, at, m.channel));
      store(m, grad_b[thread], p.grad_b, row);
      HIPPODROME_UNROLL
      for (int r = 0; r < kRank; ++r) store(m, grad_w[r][thread], p.grad_w, row * kRank + r);
    });
  }
};

// ∂a, ∂c and ∂q, once σ is known.
template <class L>
struct StateGradients {
  using S = typename L::S;
  static constexpr int kThreads = L::kThreads, kRank = L::kRank, kEntries = kTile * L::kChannels;
  struct Totals {  // Σ 2 ∂y x_t, Σ 2 ∂y p_t, Σ 2 σ_r x_{t-1}, Σ 2 σ_r p_{t-1}
    Modes<S> x, slope, x_before[kRank], slope_before[kRank];
  };
  static int64_t blocks(const Problem& p) { return L::places(p); }
  static int64_t shared_bytes(const Problem&) {
    return 2 * shared_size<S>(kEntries) + 2 * shared_size<S>(kRank * kEntries) + shared_size<int>(kTile);
  }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const DplrScanBackwardCuda& p) {
    const Place at = L::place(p, block.index());
    S* const u = block.template shared<S>(kEntries);
    S* const grad_y = block.template shared<S>(kEntries);
    S* const readouts = block.template shared<S>(kRank * kEntries);
    S* const sigma = block.template shared<S>(kRank * kEntries);
    int* const codes = block.template shared<int>(kTile);
    typename Block::template PerThread<Parameters<S, kRank>> parameters;
    typename Block::template PerThread<Modes<S>> x, slope;
    typename Block::template PerThread<Totals> totals;
    block.alone([&](int thread) {
      const auto m = L::mine(p, at, thread);
      load_parameters(p, m, parameters[thread]);
      load(m, entering(p), segment_row_of(p, at, m.channel), x[thread]);
      set_zero(slope[thread]);
      set_zero(totals[thread].x);
      set_zero(totals[thread].slope);
      HIPPODROME_UNROLL
      for (int r = 0; r < kRank; ++r) {
        set_zero(totals[thread].x_before[r]);
        set_zero(totals[thread].slope_before[r]);
      }
    });
    for_each_tile(at, [&](int64_t begin, int count) {
      block.each([&](int thread) {
        load_tile<L>(p, at, p.u, 1, begin, count, thread, u);
        load_tile<L>(p, at, p.grad_y, 1, begin, count, thread, grad_y);
        load_tile<L>(p, at, p.readouts, kRank, begin, count, thread, readouts);
        load_tile<L>(p, at, p.sigma, kRank, begin, count, thread, sigma);
        load_codes(p, at, begin, count, thread, codes);
      });
      block.each([&](int thread) {
        Modes<S>&state = x[thread], &p_state = slope[thread];
        Totals& total = totals[thread];
        for (int i = 0; i < count; ++i) {
          const int code = codes[i], entry = i * L::kChannels + thread / L::kGroup;
          if (code == kPadding) continue;
          if (code == kFresh) {
            set_zero(state);
            set_zero(p_state);
          }
          HIPPODROME_UNROLL
          for (int r = 0; r < kRank; ++r) {
            const S twice = 2 * sigma[r * kEntries + entry];
            add(state, twice, total.x_before[r]);
            add(p_state, twice, total.slope_before[r]);
          }
          multiply_add(parameters[thread].a, state, p_state);
          advance(parameters[thread], u[entry], readouts + entry, kEntries, state);
          add(state, 2 * grad_y[entry], total.x);
          add(p_state, 2 * grad_y[entry], total.slope);
        }
      });
    });
    block.alone([&](int thread) { put(p, at, L::mine(p, at, thread), slope[thread], totals[thread]); });
  }

 private:
  static HIPPODROME_HOST_DEVICE void put(const DplrScanBackwardCuda& p, const Place& at, const typename L::Mine& m,
                                         const Modes<S>& slope, Totals& total) {
    const int64_t row = segment_row_of(p, at, m.channel);
    Parameters<S, kRank> parameters;  // c and q are read here only: the registers would not hold them all along
    load_parameters(p, m, parameters);
    multiply(parameters.c, total.slope);
    HIPPODROME_UNROLL
    for (int r = 0; r < kRank; ++r) {
      multiply(parameters.q[r], total.slope_before[r]);
      add(total.slope_before[r], S(1), total.slope);
    }
    Modes<S> grad_a;
    load(m, from_behind(p), row, grad_a);
    multiply_conjugate(slope, grad_a);
    add_conjugate(total.slope, S(1), grad_a);
    store(m, grad_a, p.grad_a, row);
    store(m, conjugate(total.x), p.grad_c, row);
    HIPPODROME_UNROLL
    for (int r = 0; r < kRank; ++r) store(m, conjugate(total.x_before[r]), p.grad_q, row * kRank + r);
  }
};

// f(Layout) for the scalar, the rank and the states of a problem.
template <class S, int kRank, class F>
const char* with_states(const Problem& p, const F& f) {
  if (p.states <= 8 * kModes) return f(Layout<S, kRank, 8, 64>());
  if (p.states <= 32 * kModes) return f(Layout<S, kRank, 32, 128>());
  if (p.states <= kDplrScanCudaStates) return f(Layout<S, kRank, 128, 128>());
  return "more than 512 states";
}
template <class S, class F>
const char* with_rank(const Problem& p, const F& f) {
  return p.rank == 1 ? with_states<S, 1>(p, f) : with_states<S, 2>(p, f);
}
template <class F>
const char* with_layout(const Problem& p, const F& f) {
  return p.element == cuda::Element::kDouble ? with_rank<double>(p, f) : with_rank<float>(p, f);
}

}  // namespace hippodrome::dplr_scan_cuda

namespace hippodrome {

template <class Launcher>
const char* run_dplr_scan_forward(const DplrScanForwardCuda& p, const Launcher& launcher) {
  using namespace dplr_scan_cuda;  // NOLINT: of its kernels
  return with_layout(p, [&](auto layout) {
    using L = decltype(layout);
    const char* const error = find_entering<L>(p, launcher);
    return error != nullptr ? error : launcher.template run<Forward<L>>(p);
  });
}

template <class Launcher>
const char* run_dplr_scan_backward(const DplrScanBackwardCuda& p, const Launcher& launcher) {
  using namespace dplr_scan_cuda;  // NOLINT: of its kernels
  return with_layout(p, [&](auto layout) {
    using L = decltype(layout);
    const char* error = find_entering<L>(p, launcher);
    if (error == nullptr) error = find_from_behind<L>(p, launcher);
    if (error == nullptr) error = launcher.template run<Adjoints<L>>(p);
    return error != nullptr ? error : launcher.template run<StateGradients<L>>(p);
  });
}

}  // namespace hippodrome
