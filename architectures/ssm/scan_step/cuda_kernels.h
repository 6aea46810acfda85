// The CUDA kernel of scan_step. kLanes neighbouring threads share a channel and take its states in turn, so that a warp
// reads and writes runs of the state; kAhead of them are on their way at a time. Limited by the state's traffic where
// rows are many, by latency where they are few.
#pragma once

#include <cstdint>

#include "architectures/ssm/scan_step/cuda.h"
#include "core/cuda/block.h"
#include "core/cuda/math.h"

namespace hippodrome::scan_step {

template <class T>
struct Step {
  using S = cuda::ScalarOf<T>;
  static constexpr int kThreads = 128, kLanes = 16, kAhead = 4;
  static constexpr int kChannels = kThreads / kLanes;  // of a block
  static HIPPODROME_HOST_DEVICE int64_t channels(const CudaParams<T>& p) { return p.batch * p.heads * p.head_size; }
  static int64_t blocks(const CudaParams<T>& p) { return cuda::ceil_div(channels(p), kChannels); }
  static int64_t shared_bytes(const CudaParams<T>&) { return 0; }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const CudaParams<T>& p) {
    typename Block::template PerThread<S> sum;
    const auto channel_of = [&](int thread) { return block.index() * kChannels + thread / kLanes; };
    block.alone([&](int thread) {
      const int64_t channel = channel_of(thread);
      sum[thread] = channel < channels(p) ? advance(p, channel, thread % kLanes) : S(0);
    });
    block.template sum_over_lanes<kLanes>(sum);
    block.alone([&](int thread) {
      const int64_t channel = channel_of(thread);
      if (thread % kLanes == 0 && channel < channels(p)) write(p, channel, sum[thread]);
    });
  }

  static HIPPODROME_KERNEL S step_size(const CudaParams<T>& p, int64_t b, int64_t h) {
    S dt = cuda::load(p.dt.data[b * p.dt.batch + h]);
    if (p.dt_bias != nullptr) dt += p.dt_bias[h];
    if (p.dt_softplus) dt = cuda::softplus(dt);
    const S low = static_cast<S>(p.dt_low), high = static_cast<S>(p.dt_high);
    dt = dt < low ? low : dt;
    return dt > high ? high : dt;
  }

  // Steps the states lane, lane + kLanes, ... of the channel, numbered over [B, H, P]; returns their part of the
  // output.
  static HIPPODROME_KERNEL S advance(const CudaParams<T>& p, int64_t channel, int lane) {
    const int64_t width = p.heads * p.head_size, b = channel / width, d = channel % width, h = d / p.head_size;
    const int64_t position = p.positions == nullptr ? 1 : p.positions[b];
    if (position < 0) return S(0);
    const int64_t group = h / (p.heads / p.groups) * p.states;
    const T *const B = p.B.data + b * p.B.batch + group, *const C = p.C.data + b * p.C.batch + group;
    const S* const A = p.A + h * p.decays;
    S* const state = p.state + channel * p.states;
    const S dt = step_size(p, b, h), input = dt * cuda::load(p.x.data[b * p.x.batch + d]);
    const S common = p.decays == 1 ? cuda::exp_of(dt * A[0]) : S(0);
    S sum = S(0);
    for (int64_t first = lane; first < p.states; first += kLanes * kAhead) {
      S before[kAhead];
      HIPPODROME_UNROLL for (int k = 0; k < kAhead; ++k) {
        const int64_t n = first + k * kLanes;
        before[k] = n < p.states && position != 0 ? state[n] : S(0);
      }
      HIPPODROME_UNROLL for (int k = 0; k < kAhead; ++k) {
        const int64_t n = first + k * kLanes;
        if (n >= p.states) continue;
        const S decay = p.decays == 1 ? common : cuda::exp_of(dt * A[n]);
        const S after = decay * before[k] + input * cuda::load(B[n]);
        state[n] = after;
        sum += cuda::load(C[n]) * after;
      }
    }
    return sum;
  }

  static HIPPODROME_KERNEL void write(const CudaParams<T>& p, int64_t channel, S y) {
    const int64_t width = p.heads * p.head_size, b = channel / width, d = channel % width;
    if (p.positions != nullptr && p.positions[b] < 0) {
      cuda::store(S(0), p.y + channel);
      return;
    }
    if (p.D != nullptr) y += p.D[d / p.head_size] * cuda::load(p.x.data[b * p.x.batch + d]);
    if (p.z.data != nullptr) y *= cuda::silu(cuda::load(p.z.data[b * p.z.batch + d]));
    cuda::store(y, p.y + channel);
  }
};

template <class T, class Launcher>
const char* run_step(const CudaParams<T>& p, const Launcher& launcher) {
  return launcher.template run<Step<T>>(p);
}

}  // namespace hippodrome::scan_step
