// The CUDA kernels of the diagonal scan, in the frame of core/cuda/block.h, and which of them a call launches.
//
// Backward keeps and reads no states. A forward sweep carries the state's slope s = ∂x/∂a beside it, which gives ∂a =
// Σ 2 ∂y_t (c s_t)* + ∂x_L s*_L and ∂c, and a backward sweep of its own carries λ, which gives the rest; so each needs
// only what the other does not, 16 and 10 multiply-adds a state and token, and no memory beyond the sums.
#pragma once

#include <type_traits>

#include "architectures/ssm/diagonal_scan/cuda_segments.h"

namespace hippodrome::diagonal_scan_cuda {

template <class T, int kWarps>
struct Outputs {
  using S = ScalarOf<T>;
  static constexpr int kThreads = kWarps * kLanes;
  static int64_t blocks(const Problem& p) { return places(p); }
  static int64_t shared_bytes(const Problem&) {
    return shared_size<S>(kTile * kLanes) + shared_size<S>(kWarps * kTile * kLanes) + shared_size<int>(kTile);
  }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const DiagonalScanForwardCuda& p) {
    const Place at = place(p, block.index());
    S* const u = block.template shared<S>(kTile * kLanes);
    S* const sums = block.template shared<S>(kWarps * kTile * kLanes);
    int* const codes = block.template shared<int>(kTile);
    typename Block::template PerThread<Parameters<S>> parameters;
    typename Block::template PerThread<Modes<S>> x;
    block.alone([&](int thread) {
      const Mine m = mine(p, at, thread);
      load_parameters(p, m, parameters[thread]);
      if (p.before != nullptr) {
        load_carry(p, m, at, p.before, 2, 0, x[thread]);
      } else {
        load_state(p, m, at.row, p.state, x[thread]);
      }
    });
    for (int64_t begin = at.begin; begin < at.end; begin += kTile) {
      const int count = tokens_of_tile(at, begin);
      block.each([&](int thread) {
        load_tile<T, kThreads>(p, p.u, at, begin, count, thread, u);
        load_codes(p, at, begin, count, thread, codes);
      });
      block.each([&](int thread) {
        const Parameters<S>& m = parameters[thread];
        Modes<S>& state = x[thread];
        for (int i = 0; i < count; ++i) {
          const int code = codes[i];
          if (code == kPadding) continue;
          if (code == kFresh) set_zero(state);
          advance(m, u[i * kLanes + thread % kLanes], state);
          S sum(0);
          HIPPODROME_UNROLL
          for (int k = 0; k < kModes; ++k) sum += m.c.re[k] * state.re[k] - m.c.im[k] * state.im[k];
          sums[(thread / kLanes * kTile + i) * kLanes + thread % kLanes] = sum;
        }
      });
      block.each([&](int thread) { store_tile<T, kWarps>(p, at, begin, count, thread, codes, sums, S(2), p.y); });
    }
    block.alone([&](int thread) {
      if (at.segment == p.segments.count - 1) {
        store_state(p, mine(p, at, thread), at.row, x[thread], p.last_state);
      }
    });
  }
};

// ∂a and ∂c of each segment.
template <class T, int kWarps>
struct ReadoutGradients {
  using S = ScalarOf<T>;
  static constexpr int kThreads = kWarps * kLanes;
  static int64_t blocks(const Problem& p) { return places(p); }
  static int64_t shared_bytes(const Problem&) { return 2 * shared_size<S>(kTile * kLanes) + shared_size<int>(kTile); }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const DiagonalScanBackwardCuda& p) {
    const Place at = place(p, block.index());
    S* const u = block.template shared<S>(kTile * kLanes);
    S* const grad_y = block.template shared<S>(kTile * kLanes);
    int* const codes = block.template shared<int>(kTile);
    typename Block::template PerThread<Parameters<S>> parameters;
    typename Block::template PerThread<Modes<S>> x, slope, x_sum, slope_sum;  // the sums: Σ 2 ∂y of each
    block.alone([&](int thread) {
      const Mine m = mine(p, at, thread);
      load_parameters(p, m, parameters[thread]);
      set_zero(slope[thread]);
      if (p.before != nullptr) {
        load_carry(p, m, at, p.before, 4, 0, x[thread]);
        load_carry(p, m, at, p.before, 4, 1, slope[thread]);
      } else {
        load_state(p, m, at.row, p.state, x[thread]);
      }
      set_zero(x_sum[thread]);
      set_zero(slope_sum[thread]);
    });
    for (int64_t begin = at.begin; begin < at.end; begin += kTile) {
      const int count = tokens_of_tile(at, begin);
      block.each([&](int thread) {
        load_tile<T, kThreads>(p, p.u, at, begin, count, thread, u);
        load_tile<T, kThreads>(p, p.grad_y, at, begin, count, thread, grad_y);
        load_codes(p, at, begin, count, thread, codes);
      });
      block.each([&](int thread) {
        for (int i = 0; i < count; ++i) {
          const int code = codes[i];
          if (code == kPadding) continue;
          if (code == kFresh) {
            set_zero(x[thread]);
            set_zero(slope[thread]);
          }
          const S twice = 2 * grad_y[i * kLanes + thread % kLanes];
          advance_slope(parameters[thread], x[thread], slope[thread]);
          advance(parameters[thread], u[i * kLanes + thread % kLanes], x[thread]);
          HIPPODROME_UNROLL
          for (int k = 0; k < kModes; ++k) {
            x_sum[thread].re[k] += twice * x[thread].re[k];
            x_sum[thread].im[k] += twice * x[thread].im[k];
            slope_sum[thread].re[k] += twice * slope[thread].re[k];
            slope_sum[thread].im[k] += twice * slope[thread].im[k];
          }
        }
      });
    }
    block.alone([&](int thread) { put(p, at, mine(p, at, thread), x_sum[thread], slope[thread], slope_sum[thread]); });
  }

 private:
  static HIPPODROME_HOST_DEVICE void put(const DiagonalScanBackwardCuda& p, const Place& at, const Mine& m,
                                         const Modes<S>& x_sum, const Modes<S>& slope, const Modes<S>& slope_sum) {
    Parameters<S> parameters;  // c is read here only, so that it takes no registers before
    load_parameters(p, m, parameters);
    const Modes<S>& c = parameters.c;
    Modes<S> last;  // ∂x_L
    load_state(p, m, at.row, at.segment == p.segments.count - 1 ? p.grad_last_state : nullptr, last);
    S* const sums = static_cast<S*>(p.sums);
    HIPPODROME_UNROLL
    for (int k = 0; k < kModes; ++k) {
      if (!has(p, m, k)) continue;
      const auto to = [&](int part) -> S& {
        return sums[sum_index(p, at.row, at.segment, part, m.state + k, m.channel)];
      };
      to(0) =
          c.re[k] * slope_sum.re[k] - c.im[k] * slope_sum.im[k] + last.re[k] * slope.re[k] + last.im[k] * slope.im[k];
      to(1) =
          last.im[k] * slope.re[k] - last.re[k] * slope.im[k] - c.re[k] * slope_sum.im[k] - c.im[k] * slope_sum.re[k];
      to(4) = x_sum.re[k];
      to(5) = -x_sum.im[k];
    }
  }
};

// ∂u, ∂b of each segment, and the initial state's gradient.
template <class T, int kWarps>
struct InputGradients {
  using S = ScalarOf<T>;
  static constexpr int kThreads = kWarps * kLanes;
  static int64_t blocks(const Problem& p) { return places(p); }
  static int64_t shared_bytes(const Problem&) {
    return 2 * shared_size<S>(kTile * kLanes) + shared_size<S>(kWarps * kTile * kLanes) + shared_size<int>(kTile);
  }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const DiagonalScanBackwardCuda& p) {
    const Place at = place(p, block.index());
    S* const u = block.template shared<S>(kTile * kLanes);
    S* const grad_y = block.template shared<S>(kTile * kLanes);
    S* const sums = block.template shared<S>(kWarps * kTile * kLanes);
    int* const codes = block.template shared<int>(kTile);
    typename Block::template PerThread<Parameters<S>> parameters;
    typename Block::template PerThread<Modes<S>> lambda, b_sum;
    block.alone([&](int thread) {
      const Mine m = mine(p, at, thread);
      load_parameters(p, m, parameters[thread]);
      if (p.behind != nullptr) {
        load_carry(p, m, at, p.behind, 2, 0, lambda[thread]);
      } else {
        load_state(p, m, at.row, p.grad_last_state, lambda[thread]);
      }
      set_zero(b_sum[thread]);
    });
    for (int64_t tile = ceil_div(at.end - at.begin, kTile) - 1; tile >= 0; --tile) {
      const int64_t begin = at.begin + tile * kTile;
      const int count = tokens_of_tile(at, begin);
      block.each([&](int thread) {
        load_tile<T, kThreads>(p, p.u, at, begin, count, thread, u);
        load_tile<T, kThreads>(p, p.grad_y, at, begin, count, thread, grad_y);
        load_codes(p, at, begin, count, thread, codes);
      });
      block.each([&](int thread) {
        const Parameters<S>& m = parameters[thread];
        Modes<S>&l = lambda[thread], &total = b_sum[thread];
        for (int i = count - 1; i >= 0; --i) {
          const int code = codes[i];
          if (code == kPadding) continue;
          const S input = u[i * kLanes + thread % kLanes];
          enter(m, 2 * grad_y[i * kLanes + thread % kLanes], l);
          S sum(0);
          HIPPODROME_UNROLL
          for (int k = 0; k < kModes; ++k) {
            sum += m.b.re[k] * l.re[k] + m.b.im[k] * l.im[k];
            total.re[k] += l.re[k] * input;
            total.im[k] += l.im[k] * input;
          }
          sums[(thread / kLanes * kTile + i) * kLanes + thread % kLanes] = sum;
          retreat(m, l);
          if (code == kFresh) set_zero(l);
        }
      });
      block.each([&](int thread) { store_tile<T, kWarps>(p, at, begin, count, thread, codes, sums, S(1), p.grad_u); });
    }
    block.alone([&](int thread) {
      const Mine m = mine(p, at, thread);
      if (at.segment == 0) store_state(p, m, at.row, lambda[thread], p.grad_state);
      HIPPODROME_UNROLL
      for (int k = 0; k < kModes; ++k) {
        if (!has(p, m, k)) continue;
        const int64_t to = sum_index(p, at.row, at.segment, 2, m.state + k, m.channel);
        static_cast<S*>(p.sums)[to] = b_sum[thread].re[k];
        static_cast<S*>(p.sums)[to + p.states * p.channels] = b_sum[thread].im[k];
      }
    });
  }
};

// launch(p) for each run of kWarps · kModes states, at least once; the first error.
template <int kWarps, class Params, class Launch>
const char* for_states(Params p, const Launch& launch) {
  const char* error = nullptr;
  for (p.first_state = 0; error == nullptr && (p.first_state == 0 || p.first_state < p.states);
       p.first_state += kWarps * kModes) {
    error = launch(p);
  }
  return error;
}

template <class T, int kWarps, class Launcher>
const char* run_forward(const DiagonalScanForwardCuda& p, const Launcher& launcher) {
  const char* error = nullptr;
  if (p.segments.count > 1) {
    const Problem& problem = p;
    error = for_states<kWarps>(
        problem, [&](const Problem& q) { return launcher.template run<SegmentStates<T, kWarps, false>>(q); });
    if (error == nullptr) error = launcher.template run<CarryStates<ScalarOf<T>, false>>(problem);
  }
  if (error != nullptr) return error;
  return for_states<kWarps>(p, [&](const auto& q) { return launcher.template run<Outputs<T, kWarps>>(q); });
}

template <class T, int kWarps, class Launcher>
const char* run_backward(const DiagonalScanBackwardCuda& p, const Launcher& launcher) {
  const char* error = nullptr;
  if (p.segments.count > 1) {
    const Problem& problem = p;
    error = for_states<kWarps>(problem, [&](const Problem& q) {
      const char* failed = launcher.template run<SegmentStates<T, kWarps, true>>(q);
      return failed != nullptr ? failed : launcher.template run<SegmentAdjoints<T, kWarps>>(q);
    });
    if (error == nullptr) error = launcher.template run<CarryStates<ScalarOf<T>, true>>(problem);
    if (error == nullptr) error = launcher.template run<CarryAdjoints<ScalarOf<T>>>(problem);
  }
  if (error != nullptr) return error;
  return for_states<kWarps>(p, [&](const auto& q) {
    const char* failed = launcher.template run<ReadoutGradients<T, kWarps>>(q);
    return failed != nullptr ? failed : launcher.template run<InputGradients<T, kWarps>>(q);
  });
}

// f(TypeTag<T>{}, number of warps as a constant): two warps hold 8 states, eight hold 32, and more states are launches
// of their own. There are no kernels for float16, which the operator does not take.
template <class F>
const char* with_type_and_warps(const Problem& p, const F& f) {
  const auto sized = [&](auto type) {
    return p.states <= 2 * kModes ? f(type, std::integral_constant<int, 2>())
                                  : f(type, std::integral_constant<int, 8>());
  };
  if (p.element == cuda::Element::kDouble) return sized(cuda::TypeTag<double>());
  if (p.element == cuda::Element::kBFloat16) return sized(cuda::TypeTag<cuda::BFloat16>());
  return sized(cuda::TypeTag<float>());
}

}  // namespace hippodrome::diagonal_scan_cuda

namespace hippodrome {

template <class Launcher>
const char* run_diagonal_scan_forward(const DiagonalScanForwardCuda& p, const Launcher& launcher) {
  return diagonal_scan_cuda::with_type_and_warps(p, [&](auto type, auto warps) {
    return diagonal_scan_cuda::run_forward<typename decltype(type)::Type, decltype(warps)::value>(p, launcher);
  });
}

template <class Launcher>
const char* run_diagonal_scan_backward(const DiagonalScanBackwardCuda& p, const Launcher& launcher) {
  return diagonal_scan_cuda::with_type_and_warps(p, [&](auto type, auto warps) {
    return diagonal_scan_cuda::run_backward<typename decltype(type)::Type, decltype(warps)::value>(p, launcher);
  });
}

}  // namespace hippodrome
