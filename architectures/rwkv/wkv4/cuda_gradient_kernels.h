// The CUDA kernels of wkv4's backward pass; the form is that of core/cuda/block.h, the equations are those of op.h.
//
// Nothing but the forward pass's checkpoints is kept per token: a chunk's states are computed again, twice, so that at
// most a group's are held in registers at a time.
#pragma once

#include <cstdint>

#include "architectures/rwkv/wkv4/cuda.h"
#include "architectures/rwkv/wkv4/cuda_walk.h"
#include "core/cuda/block.h"
#include "core/cuda/element.h"

namespace hippodrome::wkv4_cuda {

// The gradients (gn, gd) of a state and the rest of its maximum's, Gm of op.h.
template <class S>
struct StateGradient {
  S n, d, m;
};

template <class S>
HIPPODROME_HOST_DEVICE StateGradient<S> load_gradient(const void* data, int64_t at, int64_t channels) {
  const State<S> g = load_state<S>(data, at, channels);
  return {g.n, g.d, g.m};
}

// That of the last state, from the op's; `data` null: 0.
template <class S>
HIPPODROME_HOST_DEVICE StateGradient<S> last_gradient(const void* data, int64_t at, int64_t channels,
                                                      const State<S>& last) {
  if (data == nullptr) return {S(0), S(0), S(0)};
  const State<S> g = load_state<S>(data, at, channels);
  return {g.n, g.d, g.m - g.n * last.n - g.d * last.d};
}

// From a segment's start back to the end of the segment ahead of it. The state that was carried to that start and the
// one in which the tokens before it end, here computed one by one, differ by what m + w + w + ... gathers of rounding
// errors. Gradients are passed on such that gn n + gd d stays what it is, the gradient of the scale: it is what gw sums
// up, and a small difference of large numbers. The remedy is a gd that differs in its last places.
template <class S>
struct Handover {
  S from_n, from_d;  // what gd gains, per gn and per gd
  HIPPODROME_HOST_DEVICE StateGradient<S> operator()(const StateGradient<S>& g) const {
    return {g.n, g.d + (from_n * g.n + from_d * g.d), g.m};
  }
};
template <class S>
HIPPODROME_HOST_DEVICE Handover<S> handover(const State<S>& carried, const State<S>& end) {
  const S n = carried.n - end.n, d = carried.d - end.d;  // both 0 where d may be
  return {n == S(0) ? S(0) : n / end.d, d == S(0) ? S(0) : d / end.d};
}

// Workspace entry s: summary of segment s + 1, (product of f1, gn, gd, whether gm passes: 1 or 0, the handover at its
// end); the first is -1 where a sequence starts inside, so that nothing passes. The last segment's has the true
// gradients behind it, gm included. Walks forward: the sum over tokens of what reaches the segment's start.
template <class T>
struct GradientSummaries {
  using S = cuda::ScalarOf<T>;
  static constexpr int kThreads = 128;
  static int64_t blocks(const Wkv4CudaBackward& p) {
    return cuda::ceil_div(p.batch * (wkv4_cuda_segments(p.time, p.segment) - 1) * p.channels, kThreads);
  }
  static int64_t shared_bytes(const Wkv4CudaBackward&) { return 0; }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Wkv4CudaBackward& p) {
    const int64_t C = p.channels, entries = cuda::ceil_div(p.time, p.segment) - 1;
    const int64_t chunks = cuda::ceil_div(p.time, kWkv4Chunk);
    block.alone([&](int thread) {
      const int64_t index = block.index() * kThreads + thread;
      if (index >= p.batch * entries * C) return;
      const Place at = place_of(index, entries, C);
      const int64_t begin = (at.segment + 1) * p.segment;
      const int64_t end = begin + p.segment < p.time ? begin + p.segment : p.time;
      const S w = static_cast<const S*>(p.w)[at.c], u = static_cast<const S*>(p.u)[at.c];
      const Column<T> columns[] = {column<T>(p.k, at.b, at.c), column<T>(p.v, at.b, at.c),
                                   column<T>(p.grad_y, at.b, at.c)};
      const int64_t* const positions = p.positions == nullptr ? nullptr : p.positions + at.b * p.time;
      State<S> s = load_state<S>(p.checkpoints, entry<3>(at.b, chunks, begin / kWkv4Chunk, C, at.c), C);
      StateGradient<S> g{S(0), S(0), S(1)}, at_cut = g;
      S product(1);
      bool cut = false;
      walk(
          columns, positions, begin, end, [](int64_t) {},
          [&](int64_t, const S(&x)[3], bool fresh) {
            if (fresh) {  // nothing behind this counts, were it infinite
              if (!cut) at_cut = g;
              cut = true;
              s = fresh_state<S>();
            }
            const S k = x[0], v = x[1];
            const Weights<S> e = weights(s.m, u + k);
            const S r = cuda::reciprocal_of(e.left() * s.d + e.right());
            const S y = (e.left() * s.n + e.right() * v) * r, through_state = product * (x[2] * r * e.left());
            g.n += through_state;
            g.d -= through_state * y;
            const Weights<S> f = weights(s.m + w, k);
            if (f.right_wins) g.m = S(0);
            product *= f.left();
            s = next_state(s, w, k, v);
          },
          [](int64_t) {});
      Handover<S> over{S(0), S(0)};
      if (cut) {
        g = {at_cut.n, at_cut.d, S(0)};
      } else if (end == p.time) {
        const StateGradient<S> last = last_gradient(p.grad_last_state, entry<3>(at.b, 1, 0, C, at.c), C, s);
        g = {g.n + product * last.n, g.d + product * last.d, g.m != S(0) ? last.m : S(0)};
      } else {
        over = handover(load_state<S>(p.checkpoints, entry<3>(at.b, chunks, end / kWkv4Chunk, C, at.c), C), s);
      }
      S* const out = static_cast<S*>(p.workspace) + entry<6>(at.b, entries, at.segment, C, at.c);
      out[0] = cut ? S(-1) : product;
      store_state(State<S>{g.n, g.d, g.m}, out, C, C);
      out[4 * C] = over.from_n;
      out[5 * C] = over.from_d;
    });
  }
};

// Replaces (gn, gd, gm) of workspace entry s by the gradient that reaches the end of segment s.
template <class S>
struct GradientCarries {
  static constexpr int kThreads = 32;  // as in Carries
  static constexpr int kAhead = 4;
  static int64_t blocks(const Wkv4CudaBackward& p) { return cuda::ceil_div(p.batch * p.channels, kThreads); }
  static int64_t shared_bytes(const Wkv4CudaBackward&) { return 0; }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Wkv4CudaBackward& p) {
    const int64_t entries = cuda::ceil_div(p.time, p.segment) - 1;
    block.alone([&](int thread) {
      const int64_t index = block.index() * kThreads + thread;
      if (index >= p.batch * p.channels) return;
      const Place at = place_of(index, 1, p.channels);
      S* const data = static_cast<S*>(p.workspace) + entry<6>(at.b, entries, 0, p.channels, at.c);
      const int64_t step = 6 * p.channels;
      // The last segment's is what it shall be.
      StateGradient<S> g = load_gradient<S>(data, (entries - 1) * step + p.channels, p.channels);
      for (int64_t end = entries - 1; end > 0; end -= kAhead) {
        S product[kAhead];
        StateGradient<S> added[kAhead];
        Handover<S> over[kAhead];
        HIPPODROME_UNROLL
        for (int i = 0; i < kAhead; ++i) {
          const S* const from = data + (end - 1 - i > 0 ? end - 1 - i : 0) * step;
          product[i] = from[0];
          added[i] = load_gradient<S>(from, p.channels, p.channels);
          over[i] = {from[4 * p.channels], from[5 * p.channels]};
        }
        HIPPODROME_UNROLL
        for (int i = 0; i < kAhead; ++i) {
          if (end - 1 - i < 0) continue;
          const StateGradient<S>&own = added[i], passed = over[i](g);
          // No product with what a sequence start holds back: that may be infinite.
          const bool cut = product[i] < S(0);
          g = {cut ? own.n : own.n + product[i] * passed.n, cut ? own.d : own.d + product[i] * passed.d,
               own.m != S(0) ? g.m : S(0)};
          store_state(State<S>{g.n, g.d, g.m}, data, (end - 1 - i) * step + p.channels, p.channels);
        }
      }
    });
  }
};

// One thread's way back through a segment.
template <class T>
struct WayBack {
  using S = cuda::ScalarOf<T>;
  S w, u;
  T* grad_k;  // of this row and channel; tokens are `channels` apart
  T* grad_v;
  int64_t channels;
  StateGradient<S> g{S(0), S(0), S(0)};  // of the state behind the present token
  S gw{0}, gu{0};

  // Tokens t to t + kGroup of a chunk, from the state before them; x: k, v and the gradient of y.
  template <bool kPlain>
  HIPPODROME_KERNEL void group(State<S> s, const S (&x)[3][kGroup], int64_t t, int64_t end, Kinds kinds) {
    S n[kGroup], d[kGroup];
    Weights<S> out[kGroup], in[kGroup];
    HIPPODROME_UNROLL
    for (int i = 0; i < kGroup; ++i) {
      if (!kPlain && kinds.is_fresh(i)) s = fresh_state<S>();
      n[i] = s.n;
      d[i] = s.d;
      out[i] = weights(s.m, u + x[0][i]);
      in[i] = weights(s.m + w, x[0][i]);
      if (kPlain || kinds.is_real(i)) s = next_state(s, w, x[0][i], x[1][i]);
    }
    T *to_k = step_by(grad_k, (t + kGroup) * channels), *to_v = step_by(grad_v, (t + kGroup) * channels);
    HIPPODROME_UNROLL
    for (int i = kGroup - 1; i >= 0; --i) {
      to_k = step_by(to_k, -channels);
      to_v = step_by(to_v, -channels);
      if (!kPlain && t + i >= end) continue;
      if (!kPlain && !kinds.is_real(i)) {
        cuda::store(S(0), to_k);
        cuda::store(S(0), to_v);
        continue;
      }
      const S v = x[1][i], f1 = in[i].left(), f2 = in[i].right();
      const S r = cuda::reciprocal_of(out[i].left() * d[i] + out[i].right());
      const S re1 = r * out[i].left(), re2 = r * out[i].right();
      const S y = re1 * n[i] + re2 * v, through_state = x[2][i] * re1, through_value = x[2][i] * re2;
      const S through_bonus = through_value * (v - y);
      const bool key_wins = in[i].right_wins;
      gu += through_bonus;
      gw += f1 * (g.n * n[i] + g.d * d[i]) + (key_wins ? S(0) : g.m);
      cuda::store(through_bonus + f2 * (g.n * v + g.d) + (key_wins ? g.m : S(0)), to_k);
      cuda::store(through_value + f2 * g.n, to_v);
      g = {through_state + f1 * g.n, f1 * g.d - through_state * y, key_wins ? S(0) : g.m};
      if (!kPlain && kinds.is_fresh(i)) g = {S(0), S(0), S(0)};
    }
  }
};

// Gradients of k, v and the initial state, and each segment's part of those of w and u, from the gradient that reaches
// the end of each segment.
template <class T>
struct Gradients {
  using S = cuda::ScalarOf<T>;
  static constexpr int kThreads = 128;
  static constexpr int64_t kGroups = kWkv4Chunk / kGroup;
  static int64_t blocks(const Wkv4CudaBackward& p) {
    return cuda::ceil_div(p.batch * wkv4_cuda_segments(p.time, p.segment) * p.channels, kThreads);
  }
  // The state before each group of a chunk, each thread's own: no barriers.
  static int64_t shared_bytes(const Wkv4CudaBackward&) { return cuda::shared_size<S>(kGroups * 3 * kThreads); }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Wkv4CudaBackward& p) {
    S* const kept = block.template shared<S>(kGroups * 3 * kThreads);
    const int64_t C = p.channels, chunks = cuda::ceil_div(p.time, kWkv4Chunk);
    const int64_t segments = cuda::ceil_div(p.time, p.segment);
    block.alone([&](int thread) {
      const int64_t index = block.index() * kThreads + thread;
      if (index >= p.batch * segments * C) return;
      const Place at = place_of(index, segments, C);
      const int64_t segment_begin = at.segment * p.segment;
      const int64_t segment_end = segment_begin + p.segment < p.time ? segment_begin + p.segment : p.time;
      const Column<T> columns[] = {column<T>(p.k, at.b, at.c), column<T>(p.v, at.b, at.c),
                                   column<T>(p.grad_y, at.b, at.c)};
      const Column<T> inputs[] = {columns[0], columns[1]};
      const int64_t* const positions = p.positions == nullptr ? nullptr : p.positions + at.b * p.time;
      const int64_t row = at.b * p.time * C + at.c, state_at = entry<3>(at.b, 1, 0, C, at.c);
      WayBack<T> back{static_cast<const S*>(p.w)[at.c], static_cast<const S*>(p.u)[at.c],
                      static_cast<T*>(p.grad_k) + row, static_cast<T*>(p.grad_v) + row, C};
      S gw(0), gu(0);
      for (int64_t begin = (segment_end - 1) / kWkv4Chunk * kWkv4Chunk; begin >= segment_begin; begin -= kWkv4Chunk) {
        const int64_t end = begin + kWkv4Chunk < segment_end ? begin + kWkv4Chunk : segment_end;
        State<S> s = load_state<S>(p.checkpoints, entry<3>(at.b, chunks, begin / kWkv4Chunk, C, at.c), C);
        walk(
            inputs, positions, begin, end,
            [&](int64_t t) { store_state(s, kept, (t - begin) / kGroup * (3 * kThreads) + thread, kThreads); },
            [&](int64_t, const S(&x)[2], bool fresh) {
              if (fresh) s = fresh_state<S>();
              s = next_state(s, back.w, x[0], x[1]);
            },
            [](int64_t) {});
        if (end == p.time) {
          back.g = last_gradient(p.grad_last_state, state_at, C, s);
        } else if (end == segment_end) {
          const int64_t carried_at = entry<6>(at.b, segments - 1, at.segment, C, at.c) + C;
          const int64_t next_at = entry<3>(at.b, chunks, end / kWkv4Chunk, C, at.c);
          back.g = handover(load_state<S>(p.checkpoints, next_at, C), s)(load_gradient<S>(p.workspace, carried_at, C));
        }

        // Sums over a chunk join the total once, which keeps rounding errors of long sequences small.
        back.gw = back.gu = S(0);
        int64_t t = begin + (end - 1 - begin) / kGroup * kGroup;
        T ahead[3][kGroup];
        S now[3][kGroup];
        load_group(columns, t, end, ahead);
        for (; t >= begin; t -= kGroup) {
          convert_group(ahead, now);
          if (t > begin) load_group(columns, t - kGroup, end, ahead);
          const State<S> before =
              load_state<S>(kept, (t - begin) / kGroup * (3 * kThreads) + thread, int64_t{kThreads});
          if (is_plain(positions, t, end)) {
            back.template group<true>(before, now, t, end, Kinds{~0u, 0});
          } else {
            back.template group<false>(before, now, t, end, kinds_of(positions, t, end));
          }
        }
        gw += back.gw;
        gu += back.gu;
      }
      const int64_t part = entry<1>(at.b, segments, at.segment, C, at.c);
      static_cast<S*>(p.grad_w_parts)[part] = gw;
      static_cast<S*>(p.grad_u_parts)[part] = gu;
      if (at.segment == 0) {
        const State<S> first = load_state<S>(p.state, state_at, C);
        const StateGradient<S>& g = back.g;
        store_state(State<S>{g.n, g.d, g.m + g.n * first.n + g.d * first.d}, p.grad_state, state_at, C);
      }
    });
  }
};

}  // namespace hippodrome::wkv4_cuda
