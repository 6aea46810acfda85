// The CUDA kernels of the diagonal scan, in the frame of core/cuda/block.h, and which of them a call launches.
//
// Backward keeps and reads no states. A forward sweep carries the state's slope s = ∂x/∂a beside it, which gives ∂a =
// Σ 2 ∂y_t (c s_t)* + ∂x_L s*_L and ∂c, and a backward sweep of its own carries λ, which gives the rest; so each needs
// only what the other does not, 16 and 10 multiply-adds a state and token, and no memory beyond the sums. Of a segment,
// x_L is the state behind it, and s starts from zero: what came before does not depend on the segment's a.
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
      load(m, entering(p), segment_row_of(p, at, m.channel), x[thread]);
    });
    for_each_tile(at, [&](int64_t begin, int count) {
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
          sums[(thread / kLanes * kTile + i) * kLanes + thread % kLanes] = read_out(m.c, state);
        }
      });
      block.each([&](int thread) { store_tile<T, kWarps>(p, at, begin, count, thread, codes, sums, S(2), p.y); });
    });
    block.alone([&](int thread) {
      const Mine m = mine(p, at, thread);
      if (is_last(p, at)) store(m, x[thread], p.last_state, row_of(p, at, m.channel));
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
      load(m, entering(p), segment_row_of(p, at, m.channel), x[thread]);
      set_zero(x_sum[thread]);
      set_zero(slope_sum[thread]);
    });
    for_each_tile(at, [&](int64_t begin, int count) {
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
          multiply_add(parameters[thread].a, x[thread], slope[thread]);
          advance(parameters[thread], u[i * kLanes + thread % kLanes], x[thread]);
          add(x[thread], twice, x_sum[thread]);
          add(slope[thread], twice, slope_sum[thread]);
        }
      });
    });
    block.alone([&](int thread) { put(p, at, mine(p, at, thread), x_sum[thread], slope[thread], slope_sum[thread]); });
  }

 private:
  static HIPPODROME_HOST_DEVICE void put(const DiagonalScanBackwardCuda& p, const Place& at, const Mine& m,
                                         const Modes<S>& x_sum, const Modes<S>& slope, const Modes<S>& slope_sum) {
    Parameters<S> parameters;  // c is read here only, so that it takes no registers before
    load_parameters(p, m, parameters);
    Modes<S> a, c_slope = slope_sum;  // ∂a = slope* ∂x_L + (c Σ 2 ∂y s)*
    load(m, from_behind(p), segment_row_of(p, at, m.channel), a);
    multiply_conjugate(slope, a);
    multiply(parameters.c, c_slope);
    add_conjugate(c_slope, S(1), a);
    S* const sums = static_cast<S*>(p.sums);
    HIPPODROME_UNROLL
    for (int k = 0; k < kModes; ++k) {
      if (!m.has(k)) continue;
      const auto to = [&](int part) -> S& { return sums[sum_index(p, at.row, at.segment, part, m.n(k), m.channel)]; };
      to(0) = a.re[k];
      to(1) = a.im[k];
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
      load(m, from_behind(p), segment_row_of(p, at, m.channel), lambda[thread]);
      set_zero(b_sum[thread]);
    });
    for_each_tile_backwards(at, [&](int64_t begin, int count) {
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
          add_conjugate(m.c, 2 * grad_y[i * kLanes + thread % kLanes], l);
          add(l, input, total);
          sums[(thread / kLanes * kTile + i) * kLanes + thread % kLanes] = scalar_product(m.b, l);
          multiply_conjugate(m.a, l);
          if (code == kFresh) set_zero(l);
        }
      });
      block.each([&](int thread) { store_tile<T, kWarps>(p, at, begin, count, thread, codes, sums, S(1), p.grad_u); });
    });
    block.alone([&](int thread) {
      const Mine m = mine(p, at, thread);
      if (is_first(at)) store(m, lambda[thread], p.grad_state, row_of(p, at, m.channel));
      HIPPODROME_UNROLL
      for (int k = 0; k < kModes; ++k) {
        if (!m.has(k)) continue;
        const int64_t to = sum_index(p, at.row, at.segment, 2, m.n(k), m.channel);
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
    error = for_states<kWarps>(problem,
                               [&](const Problem& q) { return launcher.template run<SegmentStates<T, kWarps>>(q); });
    if (error == nullptr) error = launcher.template run<Carry<ScalarOf<T>, false>>(problem);
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
      const char* failed = launcher.template run<SegmentStates<T, kWarps>>(q);
      return failed != nullptr ? failed : launcher.template run<SegmentAdjoints<T, kWarps>>(q);
    });
    if (error == nullptr) error = launcher.template run<Carry<ScalarOf<T>, false>>(problem);
    if (error == nullptr) error = launcher.template run<Carry<ScalarOf<T>, true>>(problem);
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
