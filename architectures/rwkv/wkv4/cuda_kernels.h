// The CUDA kernels of wkv4's forward pass, and how both passes are launched; the form is that of core/cuda/block.h.
//
// A token and channel cost two exponentials, a reciprocal and some thirty other instructions forward, for 6 bytes moved
// in bfloat16 (10 when segments are summarised first): arithmetic limits it as soon as memory does.
#pragma once

#include <cstdint>

#include "architectures/rwkv/wkv4/cuda.h"
#include "architectures/rwkv/wkv4/cuda_gradient_kernels.h"
#include "architectures/rwkv/wkv4/cuda_walk.h"
#include "core/cuda/block.h"
#include "core/cuda/element.h"

namespace hippodrome::wkv4_cuda {

// Workspace entry s: summary of segment s, (decay, n, d, m), of all segments but the last.
template <class T>
struct Summaries {
  using S = cuda::ScalarOf<T>;
  static constexpr int kThreads = 128;
  static int64_t items(const Wkv4CudaForward& p) {
    return p.batch * (wkv4_cuda_segments(p.time, p.segment) - 1) * p.channels;
  }
  static int64_t blocks(const Wkv4CudaForward& p) { return cuda::ceil_div(items(p), kThreads); }
  static int64_t shared_bytes(const Wkv4CudaForward&) { return 0; }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Wkv4CudaForward& p) {
    const int64_t entries = cuda::ceil_div(p.time, p.segment) - 1;
    block.alone([&](int thread) {
      const int64_t index = block.index() * kThreads + thread;
      if (index >= p.batch * entries * p.channels) return;
      const Place at = place_of(index, entries, p.channels);
      const S w = static_cast<const S*>(p.w)[at.c];
      const Column<T> columns[] = {column<T>(p.k, at.b, at.c), column<T>(p.v, at.b, at.c)};
      const int64_t* const positions = p.positions == nullptr ? nullptr : p.positions + at.b * p.time;
      State<S> s = fresh_state<S>();
      int64_t decays = 0;
      bool cut = false;
      walk(
          columns, positions, at.segment * p.segment, (at.segment + 1) * p.segment, [](int64_t) {},
          [&](int64_t, const S(&x)[2], bool fresh) {
            if (fresh) {
              s = fresh_state<S>();
              cut = true;
            }
            s = next_state(s, w, x[0], x[1]);
            ++decays;
          },
          [](int64_t) {});
      S* const out = static_cast<S*>(p.workspace) + entry<4>(at.b, entries, at.segment, p.channels, at.c);
      // 0 * w would make an infinite w not a number.
      out[0] = cut ? kCut<S> : decays == 0 ? S(0) : static_cast<S>(decays) * w;
      store_state(s, out, p.channels, p.channels);
    });
  }
};

// Replaces (n, d, m) of workspace entry s by the state before segment s + 1.
template <class S>
struct Carries {
  static constexpr int kThreads = 32;  // few threads in all: spread them over the multiprocessors
  static constexpr int kAhead = 8;     // entries loaded together
  static int64_t blocks(const Wkv4CudaForward& p) { return cuda::ceil_div(p.batch * p.channels, kThreads); }
  static int64_t shared_bytes(const Wkv4CudaForward&) { return 0; }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Wkv4CudaForward& p) {
    const int64_t entries = cuda::ceil_div(p.time, p.segment) - 1;
    block.alone([&](int thread) {
      const int64_t index = block.index() * kThreads + thread;
      if (index >= p.batch * p.channels) return;
      const Place at = place_of(index, 1, p.channels);
      State<S> s = load_state<S>(p.state, entry<3>(at.b, 1, 0, p.channels, at.c), p.channels);
      S* const data = static_cast<S*>(p.workspace) + entry<4>(at.b, entries, 0, p.channels, at.c);
      const int64_t step = 4 * p.channels;
      for (int64_t begin = 0; begin < entries; begin += kAhead) {
        S decay[kAhead];
        State<S> added[kAhead];
        HIPPODROME_UNROLL
        for (int i = 0; i < kAhead; ++i) {
          const int64_t from = (begin + i < entries ? begin + i : entries - 1) * step;
          decay[i] = data[from];
          added[i] = load_state<S>(data, from + p.channels, p.channels);
        }
        HIPPODROME_UNROLL
        for (int i = 0; i < kAhead; ++i) {
          if (begin + i >= entries) continue;
          // No product with what a sequence start forgets: that may be infinite.
          const bool cut = decay[i] == kCut<S>;
          s = cut ? added[i] : combine(s, decay[i], added[i]);
          store_state(s, data, (begin + i) * step + p.channels, p.channels);
        }
      }
    });
  }
};

// y, checkpoints and the last state, from the state before each segment.
template <class T>
struct Outputs {
  using S = cuda::ScalarOf<T>;
  static constexpr int kThreads = 128;
  static int64_t blocks(const Wkv4CudaForward& p) {
    return cuda::ceil_div(p.batch * wkv4_cuda_segments(p.time, p.segment) * p.channels, kThreads);
  }
  static int64_t shared_bytes(const Wkv4CudaForward&) { return 0; }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Wkv4CudaForward& p) {
    const int64_t C = p.channels, chunks = cuda::ceil_div(p.time, kWkv4Chunk);
    const int64_t segments = p.time > 0 ? cuda::ceil_div(p.time, p.segment) : 1;
    block.alone([&](int thread) {
      const int64_t index = block.index() * kThreads + thread;
      if (index >= p.batch * segments * C) return;
      const Place at = place_of(index, segments, C);
      const int64_t begin = at.segment * p.segment;
      const int64_t end = begin + p.segment < p.time ? begin + p.segment : p.time;
      const S w = static_cast<const S*>(p.w)[at.c], u = static_cast<const S*>(p.u)[at.c];
      const Column<T> columns[] = {column<T>(p.k, at.b, at.c), column<T>(p.v, at.b, at.c)};
      const int64_t* const positions = p.positions == nullptr ? nullptr : p.positions + at.b * p.time;
      T* y = static_cast<T*>(p.y) + (at.b * p.time + begin) * C + at.c;  // of the next token
      State<S> s = at.segment == 0
                       ? load_state<S>(p.state, entry<3>(at.b, 1, 0, C, at.c), C)
                       : load_state<S>(p.workspace, entry<4>(at.b, segments - 1, at.segment - 1, C, at.c) + C, C);
      walk(
          columns, positions, begin, end,
          [&](int64_t t) {
            if (p.checkpoints != nullptr && t % kWkv4Chunk == 0)
              store_state(s, p.checkpoints, entry<3>(at.b, chunks, t / kWkv4Chunk, C, at.c), C);
          },
          [&](int64_t, const S(&x)[2], bool fresh) {
            if (fresh) s = fresh_state<S>();
            const S k = x[0], v = x[1];
            const Weights<S> e = weights(s.m, u + k);
            // The denominator is at least 1 behind the first key, far from where the reciprocal leaves its range.
            cuda::store((e.left() * s.n + e.right() * v) * cuda::reciprocal_of(e.left() * s.d + e.right()), y);
            y = step_by(y, C);
            s = next_state(s, w, k, v);
          },
          [&](int64_t) {
            cuda::store(S(0), y);
            y = step_by(y, C);
          });
      if (end == p.time) store_state(s, p.last_state, entry<3>(at.b, 1, 0, C, at.c), C);
    });
  }
};

}  // namespace hippodrome::wkv4_cuda

namespace hippodrome {

template <class Launcher>
const char* run_wkv4_forward(const Wkv4CudaForward& p, const Launcher& launcher) {
  return cuda::with_element(p.type, [&](auto tag) -> const char* {
    using T = typename decltype(tag)::Type;
    if (wkv4_cuda_segments(p.time, p.segment) > 1) {
      if (const char* error = launcher.template run<wkv4_cuda::Summaries<T>>(p)) return error;
      if (const char* error = launcher.template run<wkv4_cuda::Carries<cuda::ScalarOf<T>>>(p)) return error;
    }
    return launcher.template run<wkv4_cuda::Outputs<T>>(p);
  });
}

template <class Launcher>
const char* run_wkv4_backward(const Wkv4CudaBackward& p, const Launcher& launcher) {
  return cuda::with_element(p.type, [&](auto tag) -> const char* {
    using T = typename decltype(tag)::Type;
    if (wkv4_cuda_segments(p.time, p.segment) > 1) {
      if (const char* error = launcher.template run<wkv4_cuda::GradientSummaries<T>>(p)) return error;
      if (const char* error = launcher.template run<wkv4_cuda::GradientCarries<cuda::ScalarOf<T>>>(p)) return error;
    }
    return launcher.template run<wkv4_cuda::Gradients<T>>(p);
  });
}

}  // namespace hippodrome
