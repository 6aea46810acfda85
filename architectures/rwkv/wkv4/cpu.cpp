// wkv4 with Highway: vectors over channels, time innermost, the state in registers.
#include "core/tensor/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "architectures/rwkv/wkv4/cpu.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

#include "architectures/rwkv/wkv4/op.h"
#include "core/tensor/vector_lanes-inl.h"
#include "core/tensor/vector_math-inl.h"
#include "hwy/cache_control.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Rows of another token lie far apart, where the hardware's prefetchers do not follow.
constexpr int64_t kWkv4PrefetchSteps = 12;

template <class T>
struct Wkv4Vectors {
  using D = hn::ScalableTag<T>;
  using V = hn::VFromD<D>;

  struct State {
    V n, d, m;
  };

  // What one token does to the state: the four factors of op.h.
  struct Factors {
    V e1, e2, f1, f2, m;
  };

  static HWY_INLINE State fresh() {
    return {hn::Zero(D()), hn::Zero(D()), hn::Set(D(), static_cast<T>(kWkv4FreshMaximum))};
  }

  template <class Lanes>
  static HWY_INLINE State load(const Lanes& lanes, const T* state, int64_t channels) {
    return {lanes.load(state), lanes.load(state + channels), lanes.load(state + 2 * channels)};
  }

  template <class Lanes>
  static HWY_INLINE void store(const Lanes& lanes, const State& s, T* state, int64_t channels) {
    lanes.store(s.n, state);
    lanes.store(s.d, state + channels);
    lanes.store(s.m, state + 2 * channels);
  }

  // Of two exponentials relative to their maximum one is 1, so a pair costs one exponential.
  static HWY_INLINE Factors factors(V m, V w, V u, V k) {
    const D tag;
    const V one = hn::Set(tag, 1);
    const V output_gap = hn::Sub(m, hn::Add(u, k));
    const V x = vector_exp_nonpositive(tag, hn::Neg(hn::Abs(output_gap)));
    const auto key_out = hn::Lt(output_gap, hn::Zero(tag));
    const V decayed = hn::Add(m, w);
    const V update_gap = hn::Sub(decayed, k);
    const V z = vector_exp_nonpositive(tag, hn::Neg(hn::Abs(update_gap)));
    const auto key_in = hn::Lt(update_gap, hn::Zero(tag));
    return {hn::IfThenElse(key_out, x, one), hn::IfThenElse(key_out, one, x), hn::IfThenElse(key_in, z, one),
            hn::IfThenElse(key_in, one, z), hn::Max(decayed, k)};
  }

  static HWY_INLINE State next(const State& s, const Factors& f, V v) {
    return {hn::MulAdd(f.f1, s.n, hn::Mul(f.f2, v)), hn::MulAdd(f.f1, s.d, f.f2), f.m};
  }
};

// Tokens [begin, end) of one vector of channels. Between calls its state waits in `last_state`.
template <class T, class Lanes>
HWY_INLINE void wkv4_forward_vector(const Wkv4Forward<T>& p, int64_t b, int64_t begin, int64_t end, int64_t c,
                                    const Lanes& lanes) {
  using Wkv = Wkv4Vectors<T>;
  using V = typename Wkv::V;
  const int64_t time = p.time, channels = p.channels;
  const V w = lanes.load(p.w + c), u = lanes.load(p.u + c);
  const int64_t* positions = p.positions == nullptr ? nullptr : p.positions + b * time;
  const T* k = p.k + b * time * channels + c;
  const T* v = p.v + b * time * channels + c;
  T* y = p.y + b * time * channels + c;
  T* carried = p.last_state + b * 3 * channels + c;
  const T* first = begin > 0 ? carried : p.state == nullptr ? nullptr : p.state + b * 3 * channels + c;
  auto s = first == nullptr ? Wkv::fresh() : Wkv::load(lanes, first, channels);
  if (p.checkpoints != nullptr) {
    const int64_t chunk = b * wkv4_chunks(time) + begin / kWkv4Chunk;
    Wkv::store(lanes, s, p.checkpoints + chunk * 3 * channels + c, channels);
  }
  for (int64_t t = begin; t < end; ++t) {
    const int64_t row = t * channels;
    if (positions != nullptr && positions[t] <= 0) {
      if (positions[t] < 0) {
        lanes.store(hn::Zero(typename Wkv::D()), y + row);
        continue;
      }
      s = Wkv::fresh();
    }
    // Prefetching past the end is harmless.
    hwy::Prefetch(k + row + kWkv4PrefetchSteps * channels);
    hwy::Prefetch(v + row + kWkv4PrefetchSteps * channels);
    const V vt = lanes.load(v + row);
    const auto f = Wkv::factors(s.m, w, u, lanes.load(k + row));
    const V numerator = hn::MulAdd(f.e1, s.n, hn::Mul(f.e2, vt));
    lanes.store(hn::Div(numerator, hn::MulAdd(f.e1, s.d, f.e2)), y + row);
    s = Wkv::next(s, f, vt);
  }
  Wkv::store(lanes, s, carried, channels);
}

template <class T, class Lanes>
HWY_INLINE void wkv4_backward_vector(const Wkv4Backward<T>& p, int64_t b, int64_t c, const Lanes& lanes) {
  using Wkv = Wkv4Vectors<T>;
  using D = typename Wkv::D;
  using V = typename Wkv::V;
  const D tag;
  const V zero = hn::Zero(tag);
  const int64_t time = p.time, channels = p.channels;
  const V w = lanes.load(p.w + c), u = lanes.load(p.u + c);
  const int64_t* positions = p.positions == nullptr ? nullptr : p.positions + b * time;
  const int64_t row0 = b * time * channels + c;
  const T* k = p.k + row0;
  const T* v = p.v + row0;
  const T* grad_y = p.grad_y + row0;
  T* grad_k = p.grad_k + row0;
  T* grad_v = p.grad_v + row0;
  const int64_t chunks = wkv4_chunks(time);

  // What the way back needs of each step, recomputed per chunk: r e1, r e2, f1, f2, y and the state's n and d before
  // the step.
  constexpr int64_t kKept = 7;
  constexpr int64_t kWidth = static_cast<int64_t>(hn::MaxLanes(D()));
  HWY_ALIGN T kept[kWkv4Chunk * kKept * kWidth];

  V gn = zero, gd = zero, gm = zero, gw = zero, gu = zero;
  for (int64_t chunk = chunks; chunk-- > 0;) {
    const int64_t begin = chunk * kWkv4Chunk;
    const int64_t end = begin + kWkv4Chunk < time ? begin + kWkv4Chunk : time;
    auto s = Wkv::load(lanes, p.checkpoints + (b * chunks + chunk) * 3 * channels + c, channels);
    T* keep = kept;
    for (int64_t t = begin; t < end; ++t, keep += kKept * kWidth) {
      if (positions != nullptr && positions[t] <= 0) {
        if (positions[t] < 0) continue;
        s = Wkv::fresh();
      }
      const int64_t row = t * channels;
      hwy::Prefetch(grad_y + row);
      const V vt = lanes.load(v + row);
      const auto f = Wkv::factors(s.m, w, u, lanes.load(k + row));
      const V r = hn::Div(hn::Set(tag, 1), hn::MulAdd(f.e1, s.d, f.e2));
      const V re1 = hn::Mul(r, f.e1), re2 = hn::Mul(r, f.e2);
      hn::Store(re1, tag, keep);
      hn::Store(re2, tag, keep + kWidth);
      hn::Store(f.f1, tag, keep + 2 * kWidth);
      hn::Store(f.f2, tag, keep + 3 * kWidth);
      hn::Store(hn::MulAdd(re1, s.n, hn::Mul(re2, vt)), tag, keep + 4 * kWidth);
      hn::Store(s.n, tag, keep + 5 * kWidth);
      hn::Store(s.d, tag, keep + 6 * kWidth);
      s = Wkv::next(s, f, vt);
    }
    if (chunk == chunks - 1 && p.grad_last_state != nullptr) {
      const auto last = Wkv::load(lanes, p.grad_last_state + b * 3 * channels + c, channels);
      gn = last.n;
      gd = last.d;
      gm = hn::NegMulAdd(gd, s.d, hn::NegMulAdd(gn, s.n, last.m));
    }

    // Sums over a chunk join the total once, which also keeps rounding errors of long sequences small.
    V chunk_gw = zero, chunk_gu = zero;
    for (int64_t t = end; t-- > begin;) {
      keep -= kKept * kWidth;
      const int64_t row = t * channels;
      if (positions != nullptr && positions[t] < 0) {
        lanes.store(zero, grad_k + row);
        lanes.store(zero, grad_v + row);
        continue;
      }
      hwy::Prefetch(k + row - kWkv4Chunk * channels);
      hwy::Prefetch(v + row - kWkv4Chunk * channels);
      const V g = lanes.load(grad_y + row), vt = lanes.load(v + row);
      const V e1 = hn::Load(tag, keep), e2 = hn::Load(tag, keep + kWidth);
      const V f1 = hn::Load(tag, keep + 2 * kWidth), f2 = hn::Load(tag, keep + 3 * kWidth);
      const V y = hn::Load(tag, keep + 4 * kWidth);
      const V n = hn::Load(tag, keep + 5 * kWidth), d = hn::Load(tag, keep + 6 * kWidth);
      const V ge1 = hn::Mul(g, e1), ge2 = hn::Mul(g, e2);
      // f1 < 1 where the key set the new maximum (but for a tie to the last bit), so it also says where the rest of
      // that maximum's gradient goes.
      const auto key_wins = hn::Lt(f1, hn::Set(tag, 1));
      const V through_bonus = hn::Mul(ge2, hn::Sub(vt, y));
      chunk_gu = hn::Add(chunk_gu, through_bonus);
      chunk_gw = hn::MulAdd(f1, hn::MulAdd(gn, n, hn::Mul(gd, d)), chunk_gw);
      chunk_gw = hn::Add(chunk_gw, hn::IfThenZeroElse(key_wins, gm));
      const V gk = hn::MulAdd(f2, hn::MulAdd(gn, vt, gd), through_bonus);
      lanes.store(hn::Add(gk, hn::IfThenElseZero(key_wins, gm)), grad_k + row);
      lanes.store(hn::MulAdd(f2, gn, ge2), grad_v + row);
      gn = hn::MulAdd(f1, gn, ge1);
      gd = hn::NegMulAdd(ge1, y, hn::Mul(f1, gd));
      gm = hn::IfThenZeroElse(key_wins, gm);
      if (positions != nullptr && positions[t] == 0) gn = gd = gm = zero;
    }
    gw = hn::Add(gw, chunk_gw);
    gu = hn::Add(gu, chunk_gu);
  }

  const auto first = p.state == nullptr ? Wkv::fresh() : Wkv::load(lanes, p.state + b * 3 * channels + c, channels);
  T* grad_state = p.grad_state + b * 3 * channels + c;
  if (chunks == 0) {  // the state passed through: so does its gradient
    auto last = typename Wkv::State{zero, zero, zero};
    if (p.grad_last_state != nullptr) last = Wkv::load(lanes, p.grad_last_state + b * 3 * channels + c, channels);
    Wkv::store(lanes, last, grad_state, channels);
  } else {
    Wkv::store(lanes, {gn, gd, hn::MulAdd(gd, first.d, hn::MulAdd(gn, first.n, gm))}, grad_state, channels);
  }
  lanes.store(gw, p.grad_w_rows + b * channels + c);
  lanes.store(gu, p.grad_u_rows + b * channels + c);
}

template <class T>
void wkv4_forward_items(const Wkv4Forward<T>& p, int64_t begin, int64_t end) {
  const int64_t blocks = wkv4_blocks(p.channels);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t b = item / blocks, first = item % blocks * kWkv4Block;
    const int64_t last = first + kWkv4Block < p.channels ? first + kWkv4Block : p.channels;
    int64_t t = 0;
    do {  // at least once: an empty sequence still hands its state on
      const int64_t stop = t + kWkv4Chunk < p.time ? t + kWkv4Chunk : p.time;
      for_each_vector<T>(first, last,
                         [&](int64_t c, const auto& lanes) HWY_ATTR { wkv4_forward_vector(p, b, t, stop, c, lanes); });
      t = stop;
    } while (t < p.time);
  }
}

template <class T>
void wkv4_backward_items(const Wkv4Backward<T>& p, int64_t begin, int64_t end) {
  const int64_t blocks = wkv4_blocks(p.channels);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t b = item / blocks, first = item % blocks * kWkv4Block;
    const int64_t last = first + kWkv4Block < p.channels ? first + kWkv4Block : p.channels;
    for_each_vector<T>(first, last,
                       [&](int64_t c, const auto& lanes) HWY_ATTR { wkv4_backward_vector(p, b, c, lanes); });
  }
}

void Wkv4ForwardFloat(const Wkv4Forward<float>& p, int64_t begin, int64_t end) { wkv4_forward_items(p, begin, end); }
void Wkv4ForwardDouble(const Wkv4Forward<double>& p, int64_t begin, int64_t end) { wkv4_forward_items(p, begin, end); }
void Wkv4BackwardFloat(const Wkv4Backward<float>& p, int64_t begin, int64_t end) { wkv4_backward_items(p, begin, end); }
void Wkv4BackwardDouble(const Wkv4Backward<double>& p, int64_t begin, int64_t end) {
  wkv4_backward_items(p, begin, end);
}

}  // namespace HWY_NAMESPACE
}  // namespace hippodrome
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hippodrome {

HWY_EXPORT(Wkv4ForwardFloat);
HWY_EXPORT(Wkv4ForwardDouble);
HWY_EXPORT(Wkv4BackwardFloat);
HWY_EXPORT(Wkv4BackwardDouble);

void wkv4_forward_cpu(const Wkv4Forward<float>& p, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(Wkv4ForwardFloat)(p, begin, end);
}
void wkv4_forward_cpu(const Wkv4Forward<double>& p, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(Wkv4ForwardDouble)(p, begin, end);
}
void wkv4_backward_cpu(const Wkv4Backward<float>& p, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(Wkv4BackwardFloat)(p, begin, end);
}
void wkv4_backward_cpu(const Wkv4Backward<double>& p, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(Wkv4BackwardDouble)(p, begin, end);
}

}  // namespace hippodrome
#endif
