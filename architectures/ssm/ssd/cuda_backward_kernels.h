// Backward of SSD on the GPU, in eight launches and up to three more:
//
//   StepFacts                      as in forward
//   UnitState, Carry               only where checkpoints are fewer than units: forward's states again
//   MaskedProduct kOutputAgain     dz, the gradient before the gate, and sums
//   UnitState, CarryGradient       the gradient of the state behind each unit, from last to first
//   MaskedProduct kInputGradient   dx, and sums
//   MaskedProduct kCGradient,
//                 kBGradient       partial sums over blocks of heads
//   StepGradients                  ddt, and partial sums of dA, dD and the bias's gradient
//
// Scores are computed three times over, once for each product that needs them, instead of being kept: they would be
// L x 256 numbers per head. Sums are added in a fixed order, without atomics.
#pragma once

#include "architectures/ssm/ssd/cuda_kernels.h"

namespace hippodrome::ssd_kernel::gpu {

// Turns what each unit adds to the gradient of the state before it into the gradient of the state behind it, from last
// to first; one thread is one element.
template <class S>
struct CarryGradient {
  static constexpr int kThreads = 128;
  static int64_t blocks(const CudaGradients& p) { return Carry<S>::blocks(p.in); }
  static int64_t shared_bytes(const CudaGradients&) { return 0; }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const CudaGradients& params) {
    const CudaParams& p = params.in;
    const Units units = units_of(p);
    block.alone([&](int thread) {
      const int64_t element = block.index() * kThreads + thread;
      if (element >= Carry<S>::elements(p)) return;
      const int64_t size = p.states * p.head_size, place = element % size, head = element / size;
      const int64_t b = head / p.heads, h = head % p.heads;
      // [N, P] in the work space, [P, N] outside.
      const int64_t outside = head * size + place % p.head_size * p.states + place / p.head_size;
      S gradient = params.last_state != nullptr ? static_cast<const S*>(params.last_state)[outside] : S(0);
      S* const of_unit = static_cast<S*>(params.unit_states) + unit_index(p, units, b, 0, h) * size + place;
      const S* const decay = static_cast<const S*>(p.unit_decays) + unit_index(p, units, b, 0, h);
      constexpr int kAhead = 4;
      for (int64_t last = units.count - 1; last >= 0; last -= kAhead) {
        S added[kAhead];
        HIPPODROME_UNROLL
        for (int i = 0; i < kAhead; ++i) added[i] = last - i >= 0 ? of_unit[(last - i) * p.heads * size] : S(0);
        HIPPODROME_UNROLL
        for (int i = 0; i < kAhead; ++i) {
          const int64_t unit = last - i;
          if (unit < 0) break;
          of_unit[unit * p.heads * size] = gradient;
          const S whole = decay[unit * p.heads];
          gradient = whole == S(0) ? added[i] : whole * gradient + added[i];
        }
      }
      if (params.initial_state != nullptr) static_cast<S*>(params.initial_state)[outside] = gradient;
    });
  }
};

// The sum over the threads of a block, in a fixed order; `values` holds kThreads of them in shared memory.
template <int kThreads, class Block>
HIPPODROME_KERNEL void sum_over_block(Block& block, double* values) {
  for (int half = kThreads / 2; half > 0; half /= 2) {
    block.each([&](int thread) {
      if (thread < half) values[thread] += values[thread + half];
    });
  }
}

// ddt = x . dX + A da through limits and softplus, where da_t sums the gradients of s_i over the steps i >= t of its
// sequence (op.h). One block is one unit of one head, one thread one step; T is the type of the tiles.
template <class T, int kSide>
struct StepGradients {
  using S = ScalarOf<T>;
  static constexpr int kThreads = kMaxUnit;
  static int64_t blocks(const CudaGradients& p) { return StepFacts<S>::blocks(p.in); }
  static int64_t shared_bytes(const CudaGradients&) { return 6 * cuda::shared_size<double>(kThreads); }

  struct Step {
    bool inside, real, starts;
    int32_t sequence;
    double time, out, ddt, dA, dD;
  };

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const CudaGradients& params) {
    const CudaParams& p = params.in;
    const Units units = units_of(p);
    const int64_t h = block.index() % p.heads, unit = block.index() / p.heads % units.count,
                  b = block.index() / p.heads / units.count;
    const int64_t begin = units.begin(unit), end = units.end(unit);
    double* const through = block.template shared<double>(kThreads);  // <exp(s_Q) h_0, g>
    double* const out = block.template shared<double>(kThreads);      // the sum of what flows to the state behind
    double* const da = block.template shared<double>(kThreads);
    double* const sum_A = block.template shared<double>(kThreads);
    double* const sum_D = block.template shared<double>(kThreads);
    double* const sum_bias = block.template shared<double>(kThreads);
    typename Block::template PerThread<Step> steps;
    typename Block::template PerThread<double> other;
    const double A = static_cast<double>(static_cast<const S*>(p.A)[h]);
    const S* const facts = static_cast<const S*>(p.steps);
    const auto time_of = [&](int64_t t) {
      return static_cast<double>(facts[step_index(p, kTimeHigh, b, h, t)]) +
             static_cast<double>(facts[step_index(p, kTimeLow, b, h, t)]);
    };
    const auto sequence_of = [&](int64_t t) {
      const int32_t s = p.sequences[b * p.length + t];
      return s < 0 ? ~s : s;
    };
    const int32_t last_sequence = sequence_of(end - 1);
    const double last_time = time_of(end - 1);

    block.each([&](int thread) {
      const int64_t t = begin + thread;
      Step& step = steps[thread];
      step = Step{};
      step.inside = t < end;
      da[thread] = out[thread] = 0.0;
      if (step.inside) {
        step.real = p.sequences[b * p.length + t] >= 0;
        step.sequence = sequence_of(t);
        step.starts = step.real && step.sequence != (t > begin ? sequence_of(t - 1) : 0);
        step.time = time_of(t);
        add_sums(params, units, b, h, t, begin, last_time, step, &da[thread]);
        out[thread] = step.sequence == last_sequence ? step.out : 0.0;
      }
      through[thread] = carried(params, unit_index(p, units, b, unit, h), thread);
    });
    sum_over_block<kThreads>(block, through);
    sum_over_block<kThreads>(block, out);
    // Sums over the later steps of the same sequence.
    for (int distance = 1; distance < kThreads; distance *= 2) {
      block.each([&](int thread) {
        const int from = thread + distance;
        other[thread] = begin + from < end && sequence_of(begin + from) == steps[thread].sequence ? da[from] : 0.0;
      });
      block.each([&](int thread) { da[thread] += other[thread]; });
    }
    block.each([&](int thread) {
      Step& step = steps[thread];
      const int64_t t = begin + thread;
      if (step.inside && step.sequence == last_sequence) da[thread] += through[0] + out[0];
      double ddt = 0.0;
      if (step.real) {
        const StepSize<S> size = step_size<S>(p, b, t, h);
        ddt = step.ddt + (step.starts ? 0.0 : A * da[thread]);  // a sequence's first step decays nothing
        if (size.unclamped < static_cast<S>(p.dt_low) || size.unclamped > static_cast<S>(p.dt_high)) ddt = 0.0;
        if (p.dt_softplus) ddt *= static_cast<double>(cuda::softplus_slope(size.raw));
      }
      if (step.inside) static_cast<S*>(params.dt)[(b * p.length + t) * p.heads + h] = static_cast<S>(ddt);
      sum_A[thread] = step.dA + (thread == 0 ? through[0] * last_time : 0.0);
      sum_D[thread] = step.dD;
      sum_bias[thread] = ddt;
    });
    sum_over_block<kThreads>(block, sum_A);
    sum_over_block<kThreads>(block, sum_D);
    sum_over_block<kThreads>(block, sum_bias);
    block.alone([&](int thread) {
      if (thread != 0) return;
      const int64_t place = unit_index(p, units, b, unit, h);
      params.A[place] = sum_A[0];
      if (params.D != nullptr) params.D[place] = sum_D[0];
      if (params.dt_bias != nullptr) params.dt_bias[place] = sum_bias[0];
    });
  }

  // What the products left for step t: the gradient of s_t through its own terms, and the step's parts of the sums.
  static HIPPODROME_HOST_DEVICE void add_sums(const CudaGradients& params, const Units& units, int64_t b, int64_t h,
                                              int64_t t, int64_t begin, double last_time, Step& step, double* da) {
    const CudaParams& p = params.in;
    const StepSums rows = step_sums_of(p.head_size, units);
    const auto sum = [&](int64_t row) {
      return static_cast<double>(static_cast<const S*>(params.step_sums)[step_index(p, row, b, h, t)]);
    };
    double in = 0.0, row_sum = 0.0;
    for (int64_t tile = 0; tile < ceil_div(p.head_size, kSide); ++tile) {
      in += sum(rows.from_state(tile));
      step.dD += sum(rows.skip(tile));
      step.out += sum(rows.to_state(tile));
      step.ddt += sum(rows.input(tile));
    }
    for (int64_t tile = 0; tile <= (t - begin) / kSide; ++tile) row_sum += sum(rows.row(tile));
    step.dA = in * step.time + step.out * (last_time - step.time) + sum(rows.column_time());
    *da = row_sum + in - sum(rows.column()) - step.out;
  }

  // This thread's part of <exp(s_Q) h_0, g>.
  static HIPPODROME_HOST_DEVICE double carried(const CudaGradients& params, int64_t place, int thread) {
    const CudaParams& p = params.in;
    const int64_t size = p.states * p.head_size;
    const S* const state = static_cast<const S*>(p.unit_states) + place * size;
    const S* const gradient = static_cast<const S*>(params.unit_states) + place * size;
    const double whole = static_cast<double>(static_cast<const S*>(p.unit_decays)[place]);
    if (whole == 0.0) return 0.0;
    S sum(0);
    for (int64_t i = thread; i < size; i += kThreads) sum += state[i] * gradient[i];
    return whole * static_cast<double>(sum);
  }
};

// `kSideForTests` overrides the side of the tiles.
template <int kSideForTests = 0, class Launcher>
const char* run_ssd_backward(const CudaGradients& p, const Launcher& launcher) {
  return cuda::with_element(p.in.type, [&](auto tag) -> const char* {
    using T = typename decltype(tag)::Type;
    using S = ScalarOf<T>;
    constexpr int kSide = kSideForTests != 0 ? kSideForTests : kSideOf<T>;
    if (const char* error = launcher.template run<StepFacts<S>>(p.in)) return error;
    if (!p.in.has_unit_states) {
      if (const char* error = run_unit_states<T, kSide>(p.in, launcher)) return error;
    }
    if (const char* error = launcher.template run<MaskedProduct<T, kSide, Result::kOutputAgain>>(p)) return error;
    if (const char* error = launcher.template run<UnitState<T, kSide, CudaGradients>>(p)) return error;
    if (const char* error = launcher.template run<CarryGradient<S>>(p)) return error;
    if (const char* error = launcher.template run<MaskedProduct<T, kSide, Result::kInputGradient>>(p)) return error;
    if (const char* error = launcher.template run<MaskedProduct<T, kSide, Result::kCGradient>>(p)) return error;
    if (const char* error = launcher.template run<MaskedProduct<T, kSide, Result::kBGradient>>(p)) return error;
    return launcher.template run<StepGradients<T, kSide>>(p);
  });
}

}  // namespace hippodrome::ssd_kernel::gpu
