// The recurrence of op.h with Highway: vectors across channels, time outermost, since every step reads its whole state.
// The states and parameters of a group of channels stay in the L1 cache.
#include "architectures/ssm/dplr_scan/op.h"

#include <algorithm>
#include <type_traits>

#include "core/tensor/vector_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "architectures/ssm/dplr_scan/cpu.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

#include "architectures/ssm/channel_group-inl.h"
#include "hwy/aligned_allocator.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::dplr_scan_kernel::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using namespace channel_group::HWY_NAMESPACE;

constexpr int64_t kChunk = kDplrScanChunk;
static_assert(kGroup == kDplrScanGroup);

// A complex number in each lane.
template <class V>
struct Pair {
  V re, im;
};
template <class D, class T, class V = hn::Vec<D>>
HWY_INLINE Pair<V> LoadPair(D d, const T* from) {
  return {hn::Load(d, from), hn::Load(d, from + kGroup)};
}
template <class D, class V, class T>
HWY_INLINE void StorePair(D d, Pair<V> v, T* to) {
  hn::Store(v.re, d, to);
  hn::Store(v.im, d, to + kGroup);
}

// The numbers of one mode, as rows of kGroup: a, b, c, then q and w of each rank, each a pair.
template <size_t R>
struct Layout {
  static constexpr int64_t kA = 0, kB = 2 * kGroup, kC = 4 * kGroup, kMode = (6 + 4 * R) * kGroup;
  static constexpr int64_t q(size_t r) { return (6 + 4 * static_cast<int64_t>(r)) * kGroup; }
  static constexpr int64_t w(size_t r) { return q(r) + 2 * kGroup; }
};

// Calls each(source [channels][N, 2] from `channel`, distance of two channels in it, place in the layout) for every
// parameter of P, or every gradient.
template <size_t R, class T, class Each>
void ForEachParameter(T* a, T* b, T* c, T* q, T* w, int64_t states, int64_t channel, const Each& each) {
  const int64_t row = 2 * states;
  each(a + channel * row, row, Layout<R>::kA);
  each(b + channel * row, row, Layout<R>::kB);
  each(c + channel * row, row, Layout<R>::kC);
  for (size_t r = 0; r < R; ++r) {
    const int64_t at = (channel * static_cast<int64_t>(R) + static_cast<int64_t>(r)) * row;
    each(q + at, static_cast<int64_t>(R) * row, Layout<R>::q(r));
    each(w + at, static_cast<int64_t>(R) * row, Layout<R>::w(r));
  }
}

template <size_t R, class P, class T>
void Pack(const P& p, int64_t channel, int64_t width, T* packed) {
  std::fill_n(packed, p.states * Layout<R>::kMode, T(0));
  ForEachParameter<R>(p.a, p.b, p.c, p.q, p.w, p.states, channel, [&](const T* from, int64_t distance, int64_t place) {
    for (int64_t lane = 0; lane < width; ++lane) {
      for (int64_t n = 0; n < p.states; ++n) {
        T* to = packed + n * Layout<R>::kMode + place + lane;
        to[0] = from[lane * distance + 2 * n];
        to[kGroup] = from[lane * distance + 2 * n + 1];
      }
    }
  });
}

// s_r = 2 Re Σ q_r x.
template <size_t R, class D, class T, class V = hn::Vec<D>>
HWY_INLINE void ReadOut(D d, const T* packed, const T* x, int64_t states, V (&s)[R]) {
  for (size_t r = 0; r < R; ++r) {
    V re = hn::Zero(d), im = hn::Zero(d);
    for (int64_t n = 0; n < states; ++n) {
      const Pair<V> q = LoadPair(d, packed + n * Layout<R>::kMode + Layout<R>::q(r)),
                    of = LoadPair(d, x + n * 2 * kGroup);
      re = hn::MulAdd(q.re, of.re, re);
      im = hn::MulAdd(q.im, of.im, im);
    }
    s[r] = hn::Sub(re, im);
    s[r] = hn::Add(s[r], s[r]);
  }
}

// One token: `to` = a∘from + Σ w_r s_r + b u, where `to` may be `from`. s is what the next token reads; returns Re Σ c
// x.
template <size_t R, bool kOutput, class D, class T, class V = hn::Vec<D>>
HWY_INLINE V Advance(D d, const T* HWY_RESTRICT packed, int64_t states, V u, const T* from, T* to, V (&s)[R]) {
  V y_re = hn::Zero(d), y_im = hn::Zero(d), next_re[R], next_im[R];
  for (size_t r = 0; r < R; ++r) next_re[r] = next_im[r] = hn::Zero(d);
  for (int64_t n = 0; n < states; ++n, packed += Layout<R>::kMode, from += 2 * kGroup, to += 2 * kGroup) {
    const Pair<V> a = LoadPair(d, packed + Layout<R>::kA), b = LoadPair(d, packed + Layout<R>::kB),
                  x = LoadPair(d, from);
    Pair<V> next{hn::MulAdd(a.re, x.re, hn::NegMulAdd(a.im, x.im, hn::Mul(b.re, u))),
                 hn::MulAdd(a.re, x.im, hn::MulAdd(a.im, x.re, hn::Mul(b.im, u)))};
    for (size_t r = 0; r < R; ++r) {
      const Pair<V> w = LoadPair(d, packed + Layout<R>::w(r));
      next.re = hn::MulAdd(w.re, s[r], next.re);
      next.im = hn::MulAdd(w.im, s[r], next.im);
    }
    StorePair(d, next, to);
    for (size_t r = 0; r < R; ++r) {
      const Pair<V> q = LoadPair(d, packed + Layout<R>::q(r));
      next_re[r] = hn::MulAdd(q.re, next.re, next_re[r]);
      next_im[r] = hn::MulAdd(q.im, next.im, next_im[r]);
    }
    if constexpr (kOutput) {
      const Pair<V> c = LoadPair(d, packed + Layout<R>::kC);
      y_re = hn::MulAdd(c.re, next.re, y_re);
      y_im = hn::MulAdd(c.im, next.im, y_im);
    }
  }
  for (size_t r = 0; r < R; ++r) {
    s[r] = hn::Sub(next_re[r], next_im[r]);
    s[r] = hn::Add(s[r], s[r]);
  }
  return hn::Sub(y_re, y_im);
}

template <class D, class T>
HWY_INLINE void Clear(D d, int64_t states, T* x) {
  for (int64_t n = 0; n < states; ++n) StorePair(d, Pair<hn::Vec<D>>{hn::Zero(d), hn::Zero(d)}, x + n * 2 * kGroup);
}

// One vector of channels through a chunk; u, x and y point at its first lane.
template <size_t R, class D, class T>
HWY_NOINLINE void ForwardLanes(D d, const Chunk& chunk, const T* packed, int64_t states, const T* u, T* x, T* y) {
  hn::Vec<D> s[R];
  ReadOut<R>(d, packed, x, states, s);
  for (const Run& run : chunk.runs) {
    if (run.fresh) {
      Clear(d, states, x);
      for (size_t r = 0; r < R; ++r) s[r] = hn::Zero(d);
    }
    for (int64_t t = run.begin; t < run.end; ++t) {
      hn::Store(Advance<R, true>(d, packed, states, hn::Load(d, u + t * kGroup), x, x, s), d, y + t * kGroup);
    }
  }
}

template <size_t R, class T>
void Forward(const DplrScanForward<T>& p, int64_t begin, int64_t end) {
  const hn::CappedTag<T, kGroup> d;
  constexpr int64_t kLanes = hn::MaxLanes(d), kMode = Layout<R>::kMode;
  const int64_t N = p.states, D = p.channels, chunks = dplr_scan_chunks(p.length), groups = dplr_scan_groups(D);
  const auto memory = hwy::AllocateAligned<T>(N * kMode + (2 * N + 2 * kChunk) * kGroup);
  T *packed = memory.get(), *x = packed + N * kMode, *u = x + 2 * N * kGroup, *y = u + kChunk * kGroup;
  Chunk chunk;
  for (int64_t item = begin, packed_group = -1; item < end; ++item) {
    const int64_t group = item / p.batch, b = item % p.batch;
    const int64_t channel = group * kGroup, width = std::min(kGroup, D - channel);
    if (group != packed_group) {
      Pack<R>(p, channel, width, packed);
      std::fill_n(u, kChunk * kGroup, T(0));  // the lanes behind the last channel stay 0
      packed_group = group;
    }
    const int64_t state_at = (b * D + channel) * 2 * N;
    LoadLanes(p.state != nullptr ? p.state + state_at : nullptr, 2 * N, width, x);
    for (int64_t c = 0; c < chunks; ++c) {
      if (p.checkpoints != nullptr) {
        std::copy_n(x, 2 * N * kGroup, p.checkpoints + ((b * chunks + c) * groups + group) * 2 * N * kGroup);
      }
      chunk.read(p.positions, b, p.length, c * kChunk, kChunk);
      Gather(chunk, p.u, D, channel, width, T(1), u);
      for (int64_t lane = 0; lane < kGroup; lane += kLanes) {
        ForwardLanes<R>(d, chunk, packed + lane, N, u + lane, x + lane, y + lane);
      }
      Scatter(chunk, y, D, channel, width, T(2), p.y);
    }
    ZeroPadding(p.positions, b, p.length, D, channel, width, p.y);
    StoreLanes(x, 2 * N, width, p.last_state + state_at);
  }
}

// Re Σ of products of pairs stored one behind the other.
template <class D, class T>
HWY_INLINE T RealDot(D d, const T* HWY_RESTRICT c, const T* HWY_RESTRICT x, int64_t states) {
  const int64_t lanes = hn::MaxLanes(d);
  auto re = hn::Zero(d), im = hn::Zero(d);
  int64_t n = 0;
  for (; n + lanes <= states; n += lanes) {
    auto cr = hn::Zero(d), ci = hn::Zero(d), xr = hn::Zero(d), xi = hn::Zero(d);
    hn::LoadInterleaved2(d, c + 2 * n, cr, ci);
    hn::LoadInterleaved2(d, x + 2 * n, xr, xi);
    re = hn::MulAdd(cr, xr, re);
    im = hn::MulAdd(ci, xi, im);
  }
  T sum = hn::GetLane(hn::SumOfLanes(d, hn::Sub(re, im)));
  for (; n < states; ++n) sum += c[2 * n] * x[2 * n] - c[2 * n + 1] * x[2 * n + 1];
  return sum;
}

template <size_t R, class T>
void Step(const DplrScanForward<T>& p, int64_t begin, int64_t end) {
  const hn::ScalableTag<T> d;
  const int64_t N = p.states, lanes = hn::MaxLanes(d);
  for (int64_t row = begin; row < end; ++row) {
    const int64_t channel = row % p.channels, position = p.positions != nullptr ? p.positions[row / p.channels] : 1;
    const T* before = p.state != nullptr && position != 0 ? p.state + row * 2 * N : nullptr;
    T* after = p.last_state + row * 2 * N;
    if (position < 0) {
      before != nullptr ? std::copy_n(before, 2 * N, after) : std::fill_n(after, 2 * N, T(0));
      p.y[row] = T(0);
      continue;
    }
    const T *a = p.a + channel * 2 * N, *b = p.b + channel * 2 * N, u = p.u[row];
    const T *q = p.q + channel * R * 2 * N, *w = p.w + channel * R * 2 * N;
    T s[R] = {};
    for (size_t r = 0; r < R && before != nullptr; ++r) s[r] = 2 * RealDot(d, q + r * 2 * N, before, N);
    const auto input = hn::Set(d, u);
    int64_t n = 0;
    for (; n + lanes <= N; n += lanes) {
      auto ar = hn::Zero(d), ai = ar, br = ar, bi = ar, xr = ar, xi = ar;
      hn::LoadInterleaved2(d, a + 2 * n, ar, ai);
      hn::LoadInterleaved2(d, b + 2 * n, br, bi);
      if (before != nullptr) hn::LoadInterleaved2(d, before + 2 * n, xr, xi);
      auto re = hn::MulAdd(ar, xr, hn::NegMulAdd(ai, xi, hn::Mul(br, input)));
      auto im = hn::MulAdd(ar, xi, hn::MulAdd(ai, xr, hn::Mul(bi, input)));
      for (size_t r = 0; r < R; ++r) {
        hn::LoadInterleaved2(d, w + (r * N + n) * 2, br, bi);
        re = hn::MulAdd(br, hn::Set(d, s[r]), re);
        im = hn::MulAdd(bi, hn::Set(d, s[r]), im);
      }
      hn::StoreInterleaved2(re, im, d, after + 2 * n);
    }
    for (; n < N; ++n) {
      const T xr = before != nullptr ? before[2 * n] : T(0), xi = before != nullptr ? before[2 * n + 1] : T(0);
      after[2 * n] = a[2 * n] * xr - a[2 * n + 1] * xi + b[2 * n] * u;
      after[2 * n + 1] = a[2 * n] * xi + a[2 * n + 1] * xr + b[2 * n + 1] * u;
      for (size_t r = 0; r < R; ++r) {
        after[2 * n] += w[(r * N + n) * 2] * s[r];
        after[2 * n + 1] += w[(r * N + n) * 2 + 1] * s[r];
      }
    }
    p.y[row] = 2 * RealDot(d, p.c + channel * 2 * N, after, N);
  }
}

// What backward keeps of a chunk, per token a row of kGroup or, for states, 2 N of them: inputs, what each step read
// out (s) and its adjoint (σ), adjoints λ of the states, and the states, of which each run has one more than tokens.
template <size_t R, class T>
struct Workspace {
  T *u, *dy, *du, *s, *sigma, *lambda, *states;
  static int64_t size(int64_t N) { return (3 + 2 * R) * kChunk * kGroup + 3 * kChunk * 2 * N * kGroup; }
  Workspace(T* memory, int64_t N)
      : u(memory),
        dy(u + kChunk * kGroup),
        du(dy + kChunk * kGroup),
        s(du + kChunk * kGroup),
        sigma(s + R * kChunk * kGroup),
        lambda(sigma + R * kChunk * kGroup),
        states(lambda + kChunk * 2 * N * kGroup) {}
};

// The states of a chunk once more, from the one before it.
template <size_t R, class D, class T>
HWY_NOINLINE void RecomputeLanes(D d, const Chunk& chunk, const T* packed, int64_t N, const T* x_before,
                                 const Workspace<R, T>& work, int64_t lane) {
  T* slot = work.states + lane;
  const T* last = x_before;
  hn::Vec<D> s[R];
  ReadOut<R>(d, packed, x_before, N, s);
  for (const Run& run : chunk.runs) {
    if (run.fresh) {
      Clear(d, N, slot);
      for (size_t r = 0; r < R; ++r) s[r] = hn::Zero(d);
    } else {
      for (int64_t n = 0; n < N; ++n) StorePair(d, LoadPair(d, last + n * 2 * kGroup), slot + n * 2 * kGroup);
    }
    for (int64_t t = run.begin; t < run.end; ++t, slot += 2 * N * kGroup) {
      for (size_t r = 0; r < R; ++r) hn::Store(s[r], d, work.s + (t * R + r) * kGroup + lane);
      Advance<R, false>(d, packed, N, hn::Load(d, work.u + t * kGroup + lane), slot, slot + 2 * N * kGroup, s);
    }
    last = slot;
    slot += 2 * N * kGroup;
  }
}

// λ, σ and ∂u of a chunk, last token first; g is the adjoint that reaches the state from later tokens.
template <size_t R, class D, class T>
HWY_NOINLINE void AdjointLanes(D d, const Chunk& chunk, const T* packed, int64_t N, const Workspace<R, T>& work,
                               int64_t lane, T* g) {
  using V = hn::Vec<D>;
  for (size_t index = chunk.runs.size(); index-- > 0;) {
    const Run& run = chunk.runs[index];
    for (int64_t t = run.end - 1; t >= run.begin; --t) {
      const V dy = hn::Load(d, work.dy + t * kGroup + lane);
      T* lambda = work.lambda + t * 2 * N * kGroup + lane;
      V du = hn::Zero(d), sigma[R];
      for (size_t r = 0; r < R; ++r) sigma[r] = hn::Zero(d);
      for (int64_t n = 0; n < N; ++n) {
        const T* mode = packed + n * Layout<R>::kMode;
        const Pair<V> b = LoadPair(d, mode + Layout<R>::kB), c = LoadPair(d, mode + Layout<R>::kC);
        Pair<V> l = LoadPair(d, g + n * 2 * kGroup);
        l = {hn::MulAdd(c.re, dy, l.re), hn::NegMulAdd(c.im, dy, l.im)};
        StorePair(d, l, lambda + n * 2 * kGroup);
        du = hn::MulAdd(b.re, l.re, hn::MulAdd(b.im, l.im, du));
        for (size_t r = 0; r < R; ++r) {
          const Pair<V> w = LoadPair(d, mode + Layout<R>::w(r));
          sigma[r] = hn::MulAdd(w.re, l.re, hn::MulAdd(w.im, l.im, sigma[r]));
        }
      }
      hn::Store(du, d, work.du + t * kGroup + lane);
      for (size_t r = 0; r < R; ++r) {
        sigma[r] = hn::Add(sigma[r], sigma[r]);
        hn::Store(sigma[r], d, work.sigma + (t * R + r) * kGroup + lane);
      }
      for (int64_t n = 0; n < N; ++n) {
        const T* mode = packed + n * Layout<R>::kMode;
        const Pair<V> a = LoadPair(d, mode + Layout<R>::kA), l = LoadPair(d, lambda + n * 2 * kGroup);
        Pair<V> next{hn::MulAdd(a.re, l.re, hn::Mul(a.im, l.im)), hn::NegMulAdd(a.im, l.re, hn::Mul(a.re, l.im))};
        for (size_t r = 0; r < R; ++r) {
          const Pair<V> q = LoadPair(d, mode + Layout<R>::q(r));
          next = {hn::MulAdd(q.re, sigma[r], next.re), hn::NegMulAdd(q.im, sigma[r], next.im)};
        }
        StorePair(d, next, g + n * 2 * kGroup);
      }
    }
    if (run.fresh) Clear(d, N, g);
  }
}

// Adds the chunk's part of the parameters' gradients, a mode at a time; `sums` has the parameters' layout.
template <size_t R, class D, class T>
HWY_NOINLINE void AccumulateLanes(D d, const Chunk& chunk, int64_t N, const Workspace<R, T>& work, int64_t lane,
                                  T* sums) {
  using V = hn::Vec<D>;
  for (int64_t n = 0; n < N; ++n, sums += Layout<R>::kMode) {
    const Pair<V> zero{hn::Zero(d), hn::Zero(d)};
    Pair<V> da = zero, db = zero, dc = zero, dq[R], dw[R];
    for (size_t r = 0; r < R; ++r) dq[r] = dw[r] = zero;
    const T* x = work.states + n * 2 * kGroup + lane;
    for (const Run& run : chunk.runs) {
      for (int64_t t = run.begin; t < run.end; ++t, x += 2 * N * kGroup) {
        const Pair<V> l = LoadPair(d, work.lambda + (t * N + n) * 2 * kGroup + lane), x0 = LoadPair(d, x),
                      x1 = LoadPair(d, x + 2 * N * kGroup);
        const V u = hn::Load(d, work.u + t * kGroup + lane), dy = hn::Load(d, work.dy + t * kGroup + lane);
        da = {hn::MulAdd(l.re, x0.re, hn::MulAdd(l.im, x0.im, da.re)),
              hn::MulAdd(l.im, x0.re, hn::NegMulAdd(l.re, x0.im, da.im))};
        db = {hn::MulAdd(l.re, u, db.re), hn::MulAdd(l.im, u, db.im)};
        dc = {hn::MulAdd(dy, x1.re, dc.re), hn::NegMulAdd(dy, x1.im, dc.im)};
        for (size_t r = 0; r < R; ++r) {
          const V s = hn::Load(d, work.s + (t * R + r) * kGroup + lane),
                  sigma = hn::Load(d, work.sigma + (t * R + r) * kGroup + lane);
          dq[r] = {hn::MulAdd(sigma, x0.re, dq[r].re), hn::NegMulAdd(sigma, x0.im, dq[r].im)};
          dw[r] = {hn::MulAdd(l.re, s, dw[r].re), hn::MulAdd(l.im, s, dw[r].im)};
        }
      }
      x += 2 * N * kGroup;  // the run's last state
    }
    const auto add = [&](Pair<V> v, int64_t place) {
      const Pair<V> before = LoadPair(d, sums + place);
      StorePair(d, Pair<V>{hn::Add(before.re, v.re), hn::Add(before.im, v.im)}, sums + place);
    };
    add(da, Layout<R>::kA);
    add(db, Layout<R>::kB);
    add(dc, Layout<R>::kC);
    for (size_t r = 0; r < R; ++r) {
      add(dq[r], Layout<R>::q(r));
      add(dw[r], Layout<R>::w(r));
    }
  }
}

template <size_t R, class T>
void Backward(const DplrScanBackward<T>& p, int64_t begin, int64_t end) {
  const hn::CappedTag<T, kGroup> d;
  constexpr int64_t kLanes = hn::MaxLanes(d), kMode = Layout<R>::kMode;
  const int64_t N = p.states, D = p.channels, chunks = dplr_scan_chunks(p.length), groups = dplr_scan_groups(D);
  const auto memory = hwy::AllocateAligned<T>(2 * N * kMode + 4 * N * kGroup + Workspace<R, T>::size(N));
  T *packed = memory.get(), *sums = packed + N * kMode, *g = sums + N * kMode, *before = g + 2 * N * kGroup;
  const Workspace<R, T> work(before + 2 * N * kGroup, N);
  Chunk chunk;
  for (int64_t group = begin; group < end; ++group) {
    const int64_t channel = group * kGroup, width = std::min(kGroup, D - channel);
    Pack<R>(p, channel, width, packed);
    std::fill_n(sums, N * kMode, T(0));
    std::fill_n(work.u, 2 * kChunk * kGroup, T(0));  // the lanes behind the last channel of u and dy stay 0
    for (int64_t b = 0; b < p.batch; ++b) {
      const int64_t state_at = (b * D + channel) * 2 * N;
      LoadLanes(p.grad_last_state + state_at, 2 * N, width, g);
      for (int64_t c = chunks - 1; c >= 0; --c) {
        std::copy_n(p.checkpoints + ((b * chunks + c) * groups + group) * 2 * N * kGroup, 2 * N * kGroup, before);
        chunk.read(p.positions, b, p.length, c * kChunk, kChunk);
        Gather(chunk, p.u, D, channel, width, T(1), work.u);
        Gather(chunk, p.grad_y, D, channel, width, T(2), work.dy);
        for (int64_t lane = 0; lane < kGroup; lane += kLanes) {
          RecomputeLanes<R>(d, chunk, packed + lane, N, before + lane, work, lane);
          AdjointLanes<R>(d, chunk, packed + lane, N, work, lane, g + lane);
          AccumulateLanes<R>(d, chunk, N, work, lane, sums + lane);
        }
        Scatter(chunk, work.du, D, channel, width, T(1), p.grad_u);
      }
      ZeroPadding(p.positions, b, p.length, D, channel, width, p.grad_u);
      StoreLanes(g, 2 * N, width, p.grad_state + state_at);
    }
    ForEachParameter<R>(p.grad_a, p.grad_b, p.grad_c, p.grad_q, p.grad_w, N, channel,
                        [&](T* to, int64_t distance, int64_t place) {
                          for (int64_t lane = 0; lane < width; ++lane) {
                            for (int64_t n = 0; n < N; ++n) {
                              const T* from = sums + n * kMode + place + lane;
                              to[lane * distance + 2 * n] = from[0];
                              to[lane * distance + 2 * n + 1] = from[kGroup];
                            }
                          }
                        });
  }
}

#define HIPPODROME_DPLR_KERNEL(Kernel, Params, T, Name)                \
  void Kernel##Name(const Params<T>& p, int64_t begin, int64_t end) {  \
    p.rank == 1 ? Kernel<1>(p, begin, end) : Kernel<2>(p, begin, end); \
  }
HIPPODROME_DPLR_KERNEL(Forward, DplrScanForward, float, Float)
HIPPODROME_DPLR_KERNEL(Forward, DplrScanForward, double, Double)
HIPPODROME_DPLR_KERNEL(Step, DplrScanForward, float, Float)
HIPPODROME_DPLR_KERNEL(Step, DplrScanForward, double, Double)
HIPPODROME_DPLR_KERNEL(Backward, DplrScanBackward, float, Float)
HIPPODROME_DPLR_KERNEL(Backward, DplrScanBackward, double, Double)
#undef HIPPODROME_DPLR_KERNEL

}  // namespace hippodrome::dplr_scan_kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hippodrome {
namespace dplr_scan_kernel {
#define HIPPODROME_DPLR_EXPORTS(Name) \
  HWY_EXPORT(Forward##Name);          \
  HWY_EXPORT(Step##Name);             \
  HWY_EXPORT(Backward##Name);
HIPPODROME_DPLR_EXPORTS(Float)
HIPPODROME_DPLR_EXPORTS(Double)
#undef HIPPODROME_DPLR_EXPORTS
}  // namespace dplr_scan_kernel

#define HIPPODROME_DPLR_ENTRIES(T, Name)                                              \
  template <>                                                                         \
  void dplr_scan_forward(const DplrScanForward<T>& p, int64_t begin, int64_t end) {   \
    using namespace dplr_scan_kernel;                                                 \
    HWY_DYNAMIC_DISPATCH(Forward##Name)(p, begin, end);                               \
  }                                                                                   \
  template <>                                                                         \
  void dplr_scan_step(const DplrScanForward<T>& p, int64_t begin, int64_t end) {      \
    using namespace dplr_scan_kernel;                                                 \
    HWY_DYNAMIC_DISPATCH(Step##Name)(p, begin, end);                                  \
  }                                                                                   \
  template <>                                                                         \
  void dplr_scan_backward(const DplrScanBackward<T>& p, int64_t begin, int64_t end) { \
    using namespace dplr_scan_kernel;                                                 \
    HWY_DYNAMIC_DISPATCH(Backward##Name)(p, begin, end);                              \
  }
HIPPODROME_DPLR_ENTRIES(float, Float)
HIPPODROME_DPLR_ENTRIES(double, Double)
#undef HIPPODROME_DPLR_ENTRIES

}  // namespace hippodrome
#endif  // HWY_ONCE
