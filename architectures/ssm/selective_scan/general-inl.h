// The selective scan with complex numbers or zero-order hold, for one instruction set: one lane per channel, one state
// at a time through a chunk. What surrounds the recurrence (step sizes, skip, gate, sums) is that of forward-inl.h and
// backward-inl.h.
#if defined(HIPPODROME_SELECTIVE_SCAN_GENERAL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HIPPODROME_SELECTIVE_SCAN_GENERAL_INL_H_
#undef HIPPODROME_SELECTIVE_SCAN_GENERAL_INL_H_
#else
#define HIPPODROME_SELECTIVE_SCAN_GENERAL_INL_H_
#endif

#include "architectures/ssm/selective_scan/block-inl.h"
#include "hwy/contrib/math/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hippodrome::s6 {
namespace HWY_NAMESPACE {

// A number per lane: complex, or real with the imaginary part left alone.
template <bool kComplex, class T>
struct Number {
  Vector<T> re, im;
};

template <bool kComplex, class T>
HWY_INLINE Number<kComplex, T> times(const Number<kComplex, T>& a, const Number<kComplex, T>& b) {
  if constexpr (kComplex) {
    return {hn::NegMulAdd(a.im, b.im, hn::Mul(a.re, b.re)), hn::MulAdd(a.im, b.re, hn::Mul(a.re, b.im))};
  } else {
    return {hn::Mul(a.re, b.re), a.im};
  }
}
// conj(a) b.
template <bool kComplex, class T>
HWY_INLINE Number<kComplex, T> conjugate_times(const Number<kComplex, T>& a, const Number<kComplex, T>& b) {
  if constexpr (kComplex) {
    return {hn::MulAdd(a.im, b.im, hn::Mul(a.re, b.re)), hn::NegMulAdd(a.im, b.re, hn::Mul(a.re, b.im))};
  } else {
    return {hn::Mul(a.re, b.re), a.im};
  }
}
template <bool kComplex, class T>
HWY_INLINE Number<kComplex, T> scaled(Vector<T> factor, const Number<kComplex, T>& a) {
  if constexpr (kComplex) return {hn::Mul(factor, a.re), hn::Mul(factor, a.im)};
  return {hn::Mul(factor, a.re), a.im};
}
template <bool kComplex, class T>
HWY_INLINE Number<kComplex, T> plus(const Number<kComplex, T>& a, const Number<kComplex, T>& b) {
  if constexpr (kComplex) return {hn::Add(a.re, b.re), hn::Add(a.im, b.im)};
  return {hn::Add(a.re, b.re), a.im};
}
// Re(conj(a) b).
template <bool kComplex, class T>
HWY_INLINE Vector<T> inner(const Number<kComplex, T>& a, const Number<kComplex, T>& b) {
  if constexpr (kComplex) return hn::MulAdd(a.im, b.im, hn::Mul(a.re, b.re));
  return hn::Mul(a.re, b.re);
}
// State n of an array of all states: [states][lanes], or one number per state for all lanes.
template <bool kComplex, class T>
HWY_INLINE Number<kComplex, T> load_lanes(const T* from, int64_t n, int64_t half) {
  const Tag<T> d;
  return {hn::Load(d, from + n * kLanes<T>), kComplex ? hn::Load(d, from + (n + half) * kLanes<T>) : hn::Zero(d)};
}
template <bool kComplex, class T>
HWY_INLINE void store_lanes(const Number<kComplex, T>& a, int64_t n, int64_t half, T* to) {
  const Tag<T> d;
  hn::Store(a.re, d, to + n * kLanes<T>);
  if constexpr (kComplex) hn::Store(a.im, d, to + (n + half) * kLanes<T>);
}
template <bool kComplex, class T>
HWY_INLINE Number<kComplex, T> broadcast(const T* from, int64_t n, int64_t half) {
  const Tag<T> d;
  return {hn::Set(d, from[n]), kComplex ? hn::Set(d, from[n + half]) : hn::Zero(d)};
}

// Of a step: abar = e^z, z = delta A; phi, delta or delta (e^z - 1) / z; psi, the derivative of (e^z - 1) / z.
template <bool kComplex, class T>
struct StepFactors {
  Number<kComplex, T> abar, phi, psi;
};

// psi near 0: sum_j z^j / (j! (j + 2)), to the precision of the format for |z| < 1/2.
template <bool kComplex, class T>
HWY_INLINE Number<kComplex, T> psi_series(const Number<kComplex, T>& z) {
  const Tag<T> d;
  constexpr int kTerms = sizeof(T) == 4 ? 8 : 15;
  double inverse_factorial = 1.0;
  double coefficient[kTerms];
  for (int j = 0; j < kTerms; ++j) {
    if (j > 0) inverse_factorial /= j;
    coefficient[j] = inverse_factorial / (j + 2);
  }
  Number<kComplex, T> sum = {hn::Set(d, static_cast<T>(coefficient[kTerms - 1])), hn::Zero(d)};
  for (int j = kTerms - 2; j >= 0; --j) {
    sum = times(sum, z);
    sum.re = hn::Add(sum.re, hn::Set(d, static_cast<T>(coefficient[j])));
  }
  return sum;
}

template <bool kComplex, bool kHold, class T>
HWY_INLINE StepFactors<kComplex, T> step_factors(Vector<T> delta, const Number<kComplex, T>& A) {
  const Tag<T> d;
  StepFactors<kComplex, T> f;
  const Number<kComplex, T> z = scaled(delta, A);
  f.abar = {vector_exp(d, z.re), hn::Zero(d)};
  if constexpr (kComplex) f.abar = {hn::Mul(f.abar.re, hn::Cos(d, z.im)), hn::Mul(f.abar.re, hn::Sin(d, z.im))};
  f.phi = {delta, hn::Zero(d)};
  f.psi = {hn::Zero(d), hn::Zero(d)};
  if constexpr (kHold) {
    const Vector<T> one = hn::Set(d, T(1));
    const auto near = hn::Lt(inner(z, z), hn::Set(d, T(0.25)));
    const auto select = [&](const Number<kComplex, T>& yes, const Number<kComplex, T>& no) {
      return Number<kComplex, T>{hn::IfThenElse(near, yes.re, no.re),
                                 kComplex ? hn::IfThenElse(near, yes.im, no.im) : no.im};
    };
    const auto minus = [&](const Number<kComplex, T>& a, const Number<kComplex, T>& b) {
      return Number<kComplex, T>{hn::Sub(a.re, b.re), kComplex ? hn::Sub(a.im, b.im) : a.im};
    };
    // Far from 0 the quotients lose nothing: 1 / z = conj(z) / |z|^2.
    const Number<kComplex, T> safe = select({one, hn::Zero(d)}, z);
    const Vector<T> inverse_square = hn::Div(one, inner(safe, safe));
    const auto over_z = [&](const Number<kComplex, T>& a) { return scaled(inverse_square, conjugate_times(safe, a)); };
    const Number<kComplex, T> far = over_z({hn::Sub(f.abar.re, one), f.abar.im});
    const Number<kComplex, T> series = psi_series(z);
    const Number<kComplex, T> ratio = select(minus(f.abar, times(z, series)), far);  // (e^z - 1) / z
    f.psi = select(series, over_z(minus(f.abar, far)));
    f.phi = scaled(delta, ratio);
  }
  return f;
}

// State n over a chunk; adds its part to y.
template <bool kComplex, bool kHold, class T, class Scratch>
void advance_general(const Params<T>& p, const Block& block, const Steps& steps, int64_t n, Scratch& s) {
  const Tag<T> d;
  const int64_t half = p.states / 2;
  const T* B_rows = p.B.data + block.batch * p.B.batch + block.group * p.B.group + steps.begin * p.B.time;
  const T* C_rows = p.C.data + block.batch * p.C.batch + block.group * p.C.group + steps.begin * p.C.time;
  const Number<kComplex, T> A = load_lanes<kComplex>(s.decay, n, half);
  const Vector<T> twice = hn::Set(d, T(kComplex ? 2 : 1));
  Number<kComplex, T> h = load_lanes<kComplex>(s.state, n, half);
  for (int64_t i = 0; i < steps.count; ++i) {
    const Vector<T> delta = hn::Load(d, s.delta + i * kLanes<T>), u = hn::Load(d, s.u + i * kLanes<T>);
    const auto f = step_factors<kComplex, kHold>(delta, A);
    if (HWY_UNLIKELY(steps.reset[i])) h = {hn::Zero(d), hn::Zero(d)};
    const auto B = broadcast<kComplex>(B_rows + steps.row[i] * p.B.time, n, half);
    const auto C = broadcast<kComplex>(C_rows + steps.row[i] * p.C.time, n, half);
    h = plus(times(f.abar, h), times(scaled(u, f.phi), B));
    Vector<T> out = hn::Mul(C.re, h.re);
    if constexpr (kComplex) out = hn::NegMulAdd(C.im, h.im, out);
    hn::Store(hn::MulAdd(twice, out, hn::Load(d, s.y + i * kLanes<T>)), d, s.y + i * kLanes<T>);
  }
  store_lanes(h, n, half, s.state);
}

template <class T, class Scratch>
void advance_general(const Params<T>& p, const Block& block, const Steps& steps, Scratch& s) {
  const int64_t count = p.complex ? p.states / 2 : p.states;
  for (int64_t n = 0; n < count; ++n) {
    if (p.complex && p.zero_order_hold) {
      advance_general<true, true>(p, block, steps, n, s);
    } else if (p.complex) {
      advance_general<true, false>(p, block, steps, n, s);
    } else {
      advance_general<false, true>(p, block, steps, n, s);
    }
  }
}

// State n forward through a chunk, keeping each step's factors and the state before it, then backward. Sums of du
// (without the skip) go to sum_gB, of ddelta to sum_gAp; dB and dC are [step][N].
template <bool kComplex, bool kHold, class T, class Arrays>
void backward_general(const Params<T>& p, const Block& block, const Steps& steps, int64_t chunk, int64_t n,
                      const T* decay, T* carry_rows, T* dA_rows, T* dB_rows, T* dC_rows, Arrays& s) {
  const Tag<T> d;
  const int64_t half = p.states / 2;
  const T* B_rows = p.B.data + block.batch * p.B.batch + block.group * p.B.group + steps.begin * p.B.time;
  const T* C_rows = p.C.data + block.batch * p.C.batch + block.group * p.C.group + steps.begin * p.C.time;
  const T* checkpoint = p.checkpoints + (block.batch * chunks(p.length) + chunk) * p.states * p.channels + block.first;
  const auto checkpointed = [&](int64_t place) { return load_channels(checkpoint + place * p.channels, block.count); };
  const auto lane_sum = [&](Vector<T> v) { return hn::GetLane(hn::SumOfLanes(d, v)); };
  const Number<kComplex, T> A = load_lanes<kComplex>(decay, n, half);
  const Vector<T> twice = hn::Set(d, T(kComplex ? 2 : 1));
  const auto kept = [&](T* array, int64_t i, int slot) { return array + (i * 4 + slot) * kLanes<T>; };

  Number<kComplex, T> h = {checkpointed(n), kComplex ? checkpointed(n + half) : hn::Zero(d)};
  for (int64_t i = 0; i < steps.count; ++i) {
    if (HWY_UNLIKELY(steps.reset[i])) h = {hn::Zero(d), hn::Zero(d)};
    const Vector<T> delta = hn::Load(d, s.delta + i * kLanes<T>), u = hn::Load(d, s.u + i * kLanes<T>);
    const auto f = step_factors<kComplex, kHold>(delta, A);
    store_lanes(f.abar, 0, 1, kept(s.abar, i, 0));
    store_lanes(f.phi, 0, 1, kept(s.abar, i, 2));
    store_lanes(h, 0, 1, kept(s.before, i, 0));
    store_lanes(f.psi, 0, 1, kept(s.before, i, 2));
    const auto B = broadcast<kComplex>(B_rows + steps.row[i] * p.B.time, n, half);
    const auto C = broadcast<kComplex>(C_rows + steps.row[i] * p.C.time, n, half);
    h = plus(times(f.abar, h), times(scaled(u, f.phi), B));
    Vector<T> out = hn::Mul(C.re, h.re);
    if constexpr (kComplex) out = hn::NegMulAdd(C.im, h.im, out);
    hn::Store(hn::MulAdd(twice, out, hn::Load(d, s.y + i * kLanes<T>)), d, s.y + i * kLanes<T>);
    const Vector<T> dy = hn::Mul(twice, hn::Load(d, s.dy + i * kLanes<T>));
    dC_rows[i * p.states + n] += lane_sum(hn::Mul(dy, h.re));
    if constexpr (kComplex) dC_rows[i * p.states + n + half] -= lane_sum(hn::Mul(dy, h.im));
  }

  Number<kComplex, T> carry = load_lanes<kComplex>(carry_rows, n, half), dA = load_lanes<kComplex>(dA_rows, n, half);
  for (int64_t i = steps.count - 1; i >= 0; --i) {
    const Vector<T> delta = hn::Load(d, s.delta + i * kLanes<T>), u = hn::Load(d, s.u + i * kLanes<T>);
    const Vector<T> dy = hn::Mul(twice, hn::Load(d, s.dy + i * kLanes<T>));
    const auto abar = load_lanes<kComplex>(kept(s.abar, i, 0), 0, 1),
               phi = load_lanes<kComplex>(kept(s.abar, i, 2), 0, 1);
    const auto before = load_lanes<kComplex>(kept(s.before, i, 0), 0, 1);
    const auto B = broadcast<kComplex>(B_rows + steps.row[i] * p.B.time, n, half);
    const auto C = broadcast<kComplex>(C_rows + steps.row[i] * p.C.time, n, half);
    Number<kComplex, T> g = {hn::MulAdd(dy, C.re, carry.re), carry.im};
    if constexpr (kComplex) g.im = hn::NegMulAdd(dy, C.im, carry.im);
    const auto dB = scaled(u, conjugate_times(phi, g));
    dB_rows[i * p.states + n] += lane_sum(dB.re);
    if constexpr (kComplex) dB_rows[i * p.states + n + half] += lane_sum(dB.im);
    const auto du = hn::Add(hn::Load(d, s.sum_gB + i * kLanes<T>), inner(g, times(phi, B)));
    hn::Store(du, d, s.sum_gB + i * kLanes<T>);
    const auto decayed = times(abar, before), Bu = scaled(u, B);
    auto by_delta = plus(times(A, decayed), kHold ? times(abar, Bu) : Bu);
    hn::Store(hn::Add(hn::Load(d, s.sum_gAp + i * kLanes<T>), inner(g, by_delta)), d, s.sum_gAp + i * kLanes<T>);
    auto by_A = scaled(delta, decayed);
    if constexpr (kHold) {
      const auto psi = load_lanes<kComplex>(kept(s.before, i, 2), 0, 1);
      by_A = plus(by_A, scaled(hn::Mul(delta, delta), times(psi, Bu)));
    }
    dA = plus(dA, conjugate_times(by_A, g));
    carry = conjugate_times(abar, g);
    if (HWY_UNLIKELY(steps.reset[i])) carry = {hn::Zero(d), hn::Zero(d)};
  }
  store_lanes(carry, n, half, carry_rows);
  store_lanes(dA, n, half, dA_rows);
}

template <class T, class Arrays>
void backward_general(const Params<T>& p, const Block& block, const Steps& steps, int64_t chunk, const T* decay,
                      T* carry_rows, T* dA_rows, T* dB_rows, T* dC_rows, Arrays& s) {
  const int64_t count = p.complex ? p.states / 2 : p.states;
  for (int64_t n = 0; n < count; ++n) {
    if (p.complex && p.zero_order_hold) {
      backward_general<true, true>(p, block, steps, chunk, n, decay, carry_rows, dA_rows, dB_rows, dC_rows, s);
    } else if (p.complex) {
      backward_general<true, false>(p, block, steps, chunk, n, decay, carry_rows, dA_rows, dB_rows, dC_rows, s);
    } else {
      backward_general<false, true>(p, block, steps, chunk, n, decay, carry_rows, dA_rows, dB_rows, dC_rows, s);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace hippodrome::s6
HWY_AFTER_NAMESPACE();
#endif
