// Plain loops of one step with complex numbers or zero-order hold; the rest of the scan is reference.h's. Equations:
// op.h.
#pragma once

#include <cmath>
#include <cstdint>

#include "architectures/ssm/selective_scan/op.h"

namespace hippodrome::s6 {

template <class S>
struct Pair {
  S re, im;
};
template <class S>
Pair<S> product_reference(const Pair<S>& a, const Pair<S>& b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
template <class S>
Pair<S> conjugate_reference(const Pair<S>& a) {
  return {a.re, S(0.0) - a.im};
}

// What a step multiplies the state (abar) and B u (phi) with.
template <class S>
struct Factors {
  Pair<S> abar, phi;
};

template <class S>
Factors<S> factors_reference(const Params<S>& p, const S& delta, const Pair<S>& A) {
  using std::cos;
  using std::exp;
  using std::expm1;
  using std::sin;
  const S real = delta * A.re, size = exp(real);
  if (!p.complex) {
    return {{size, S(0.0)}, {p.zero_order_hold ? expm1(real) / A.re : delta, S(0.0)}};
  }
  const S angle = delta * A.im, cosine = cos(angle), sine = sin(angle);
  const Pair<S> abar = {size * cosine, size * sine};
  if (!p.zero_order_hold) return {abar, {delta, S(0.0)}};
  // abar - 1 without cancellation: cos y - 1 = -2 sin^2(y / 2).
  const S half = sin(angle * S(0.5));
  const Pair<S> difference = {expm1(real) * cosine - S(2.0) * half * half, abar.im};
  const Pair<S> numerator = product_reference(difference, Pair<S>{A.re, S(-1.0) * A.im});
  const S squares = A.re * A.re + A.im * A.im;
  return {abar, {numerator.re / squares, numerator.im / squares}};
}

// h <- abar h + phi B u for all states of a channel; returns the sum of C h, or twice its real part.
template <class S>
S general_step_reference(const Params<S>& p, const S& delta, const S& u, const S* A, const S* B, const S* C, S* h) {
  S sum = S(0.0);
  if (!p.complex) {
    for (int64_t n = 0; n < p.states; ++n) {
      const Factors<S> f = factors_reference(p, delta, Pair<S>{A[n], S(0.0)});
      h[n] = f.abar.re * h[n] + f.phi.re * u * B[n];
      sum = sum + C[n] * h[n];
    }
    return sum;
  }
  const int64_t M = p.states / 2;
  for (int64_t n = 0; n < M; ++n) {
    const Factors<S> f = factors_reference(p, delta, Pair<S>{A[n], A[n + M]});
    const Pair<S> kept = product_reference(f.abar, Pair<S>{h[n], h[n + M]});
    Pair<S> input = {f.phi.re * u, S(0.0)};
    if (p.zero_order_hold) {
      input.im = f.phi.im * u;
      input = product_reference(input, Pair<S>{B[n], B[n + M]});
    } else {
      input = {input.re * B[n], input.re * B[n + M]};
    }
    h[n] = kept.re + input.re;
    h[n + M] = kept.im + input.im;
    sum = sum + (C[n] * h[n] - C[n + M] * h[n + M]);
  }
  return S(2.0) * sum;
}

// psi = (abar - phi / delta) / (delta A), the derivative of (e^z - 1) / z at z = delta A, by its series near 0, where
// the quotient loses every digit: sum_j z^j / (j! (j + 2)).
template <class S>
Pair<S> psi_reference(const S& delta, const Pair<S>& A, const Factors<S>& f) {
  const Pair<S> z = {delta * A.re, delta * A.im};
  const S squares = z.re * z.re + z.im * z.im;
  if (squares < S(0.25)) {
    Pair<S> power = {S(1.0), S(0.0)}, sum = {S(0.5), S(0.0)};
    for (int j = 1; j < 16; ++j) {
      power = product_reference(power, z);
      power = {power.re / S(j), power.im / S(j)};
      sum = {sum.re + power.re / S(j + 2.0), sum.im + power.im / S(j + 2.0)};
    }
    return sum;
  }
  const Pair<S> numerator = {f.abar.re - f.phi.re / delta, f.abar.im - f.phi.im / delta};
  const Pair<S> quotient = product_reference(numerator, conjugate_reference(z));
  return {quotient.re / squares, quotient.im / squares};
}

// One channel at one step, with the gradient of its output before the gate.
template <class S>
struct GeneralStep {
  S delta, u, dy;
  const S *A, *B, *C, *before, *after;
  bool starts;  // a sequence: nothing was kept of `before`
};

// Adds to dA, dB, dC, du and ddelta and moves the carried gradient of the state one step back.
template <class S>
void general_step_backward_reference(const Params<S>& p, const GeneralStep<S>& s, S* dA, S* dB, S* dC, S* carry, S& du,
                                     S& ddelta) {
  const int64_t M = p.complex ? p.states / 2 : p.states;
  const auto pair = [&](const S* from, int64_t n) { return Pair<S>{from[n], p.complex ? from[n + M] : S(0.0)}; };
  const auto add = [&](S* to, int64_t n, const Pair<S>& value) {
    to[n] = to[n] + value.re;
    if (p.complex) to[n + M] = to[n + M] + value.im;
  };
  const S twice = p.complex ? S(2.0) * s.dy : s.dy;
  for (int64_t n = 0; n < M; ++n) {
    const Pair<S> A = pair(s.A, n), B = pair(s.B, n), C = pair(s.C, n), h = pair(s.after, n);
    const Factors<S> f = factors_reference(p, s.delta, A);
    const Pair<S> before = s.starts ? Pair<S>{S(0.0), S(0.0)} : pair(s.before, n),
                  kept = product_reference(f.abar, before);
    const Pair<S> g = {carry[n] + twice * C.re, (p.complex ? carry[n + M] : S(0.0)) - twice * C.im};
    const auto with_g = [&](const Pair<S>& x) { return g.re * x.re + g.im * x.im; };  // Re(conj(g) x)
    add(dC, n, {twice * h.re, S(0.0) - twice * h.im});
    const Pair<S> to_B = product_reference(conjugate_reference(f.phi), g);
    add(dB, n, {s.u * to_B.re, s.u * to_B.im});
    du = du + with_g(product_reference(f.phi, B));
    const Pair<S> Bu = {B.re * s.u, B.im * s.u};
    const Pair<S> drift = product_reference(A, kept), input = p.zero_order_hold ? product_reference(f.abar, Bu) : Bu;
    ddelta = ddelta + with_g(drift) + with_g(input);
    Pair<S> by_A = {s.delta * kept.re, s.delta * kept.im};
    if (p.zero_order_hold) {
      const Pair<S> more = product_reference(psi_reference(s.delta, A, f), Bu);
      by_A = {by_A.re + s.delta * s.delta * more.re, by_A.im + s.delta * s.delta * more.im};
    }
    add(dA, n, product_reference(conjugate_reference(by_A), g));
    const Pair<S> back = product_reference(conjugate_reference(f.abar), g);
    carry[n] = s.starts ? S(0.0) : back.re;
    if (p.complex) carry[n + M] = s.starts ? S(0.0) : back.im;
  }
}

}  // namespace hippodrome::s6
