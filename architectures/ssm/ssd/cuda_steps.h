// The size of a step, and few steps one after another: decoding on the GPU.
#pragma once

#include "architectures/ssm/ssd/cuda_tiles.h"

namespace hippodrome::ssd_kernel::gpu {

// A step's size on its way through bias, softplus and limits.
template <class S>
struct StepSize {
  S raw, unclamped, size;
};

template <class S>
HIPPODROME_HOST_DEVICE StepSize<S> step_size(const CudaParams& p, int64_t b, int64_t t, int64_t h) {
  const int64_t at = b * p.dt.batch + t * p.dt.time + h;
  S raw;
  switch (p.dt_type) {
    case cuda::Element::kBFloat16:
      raw = static_cast<S>(cuda::load(static_cast<const cuda::BFloat16*>(p.dt.data)[at]));
      break;
    case cuda::Element::kHalf:
      raw = static_cast<S>(cuda::load(static_cast<const cuda::Half*>(p.dt.data)[at]));
      break;
    case cuda::Element::kDouble:
      raw = static_cast<S>(static_cast<const double*>(p.dt.data)[at]);
      break;
    default:
      raw = static_cast<S>(static_cast<const float*>(p.dt.data)[at]);
  }
  if (p.dt_bias != nullptr) raw += static_cast<const S*>(p.dt_bias)[h];
  const S unclamped = p.dt_softplus ? cuda::softplus(raw) : raw;
  const S low = static_cast<S>(p.dt_low), high = static_cast<S>(p.dt_high);
  return {raw, unclamped, unclamped < low ? low : unclamped > high ? high : unclamped};
}

HIPPODROME_HOST_DEVICE int64_t position_of(const CudaParams& p, int64_t b, int64_t t) {
  return p.positions != nullptr ? p.positions[b * p.length + t] : 1;
}

// The output of a step before skip and gate, with both.
template <class T>
HIPPODROME_HOST_DEVICE ScalarOf<T> with_skip_and_gate(const CudaParams& p, int64_t b, int64_t t, int64_t h, int64_t c,
                                                      ScalarOf<T> y) {
  const int64_t column = h * p.head_size + c;
  if (p.D != nullptr) {
    y += static_cast<const ScalarOf<T>*>(p.D)[h] *
         cuda::load(static_cast<const T*>(p.x.data)[b * p.x.batch + t * p.x.time + column]);
  }
  if (p.z.data == nullptr) return y;
  return y * cuda::silu(cuda::load(static_cast<const T*>(p.z.data)[b * p.z.batch + t * p.z.time + column]));
}

// A warp is one channel of a head, its lanes share the states, which stay in registers. Reading and writing the states
// once is most of the traffic; they are rounded nowhere.
template <class T, int kStatesPerLane>
struct SequentialOutput {
  using S = ScalarOf<T>;
  static constexpr int kThreads = 128, kChannels = kThreads / 32;
  static int64_t blocks(const CudaParams& p) { return p.batch * p.heads * ceil_div(p.head_size, kChannels); }
  static int64_t shared_bytes(const CudaParams&) { return 0; }

  struct States {
    S value[kStatesPerLane];
  };

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const CudaParams& p) {
    const int64_t across = ceil_div(p.head_size, kChannels), head = block.index() / across;
    const int64_t b = head / p.heads, h = head % p.heads, group = h / (p.heads / p.groups);
    const auto channel = [&](int thread) { return block.index() % across * kChannels + thread / 32; };
    const Rows<T> B = rows_of<T>(p.B, b, group, p.states), C = rows_of<T>(p.C, b, group, p.states),
                  x = rows_of<T>(p.x, b, h, p.head_size);
    const S A = static_cast<const S*>(p.A)[h];
    typename Block::template PerThread<States> states;
    typename Block::template PerThread<S> sum;

    block.alone([&](int thread) {
      const S* const from = static_cast<const S*>(p.initial_state);
      HIPPODROME_UNROLL
      for (int i = 0; i < kStatesPerLane; ++i) {
        const int64_t n = thread % 32 + 32 * i;
        const bool inside = from != nullptr && n < p.states && channel(thread) < p.head_size;
        states[thread].value[i] = inside ? from[(head * p.head_size + channel(thread)) * p.states + n] : S(0);
      }
    });
    for (int64_t t = 0; t < p.length; ++t) {
      const int64_t position = position_of(p, b, t);
      block.alone([&](int thread) {
        sum[thread] = S(0);
        if (position < 0 || channel(thread) >= p.head_size) return;
        const S dt = step_size<S>(p, b, t, h).size, decay = cuda::exp_of(dt * A);
        const S input = dt * cuda::load(x.data[t * x.time + channel(thread)]);
        HIPPODROME_UNROLL
        for (int i = 0; i < kStatesPerLane; ++i) {
          const int64_t n = thread % 32 + 32 * i;
          if (n >= p.states) continue;
          S& state = states[thread].value[i];
          state = (position == 0 ? S(0) : decay * state) + input * cuda::load(B.data[t * B.time + n]);
          sum[thread] += state * cuda::load(C.data[t * C.time + n]);
        }
      });
      block.template sum_over_lanes<32>(sum);
      block.alone([&](int thread) {
        const int64_t c = channel(thread);
        if (thread % 32 != 0 || c >= p.head_size) return;
        const S y = position < 0 ? S(0) : with_skip_and_gate<T>(p, b, t, h, c, sum[thread]);
        cuda::store(y, &static_cast<T*>(p.y)[((b * p.length + t) * p.heads + h) * p.head_size + c]);
      });
    }
    block.alone([&](int thread) {
      HIPPODROME_UNROLL
      for (int i = 0; i < kStatesPerLane; ++i) {
        const int64_t n = thread % 32 + 32 * i;
        if (n < p.states && channel(thread) < p.head_size)
          static_cast<S*>(p.last_state)[(head * p.head_size + channel(thread)) * p.states + n] =
              states[thread].value[i];
      }
    });
  }
};

}  // namespace hippodrome::ssd_kernel::gpu
