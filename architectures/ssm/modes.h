// Complex numbers in a thread's registers, a few of a channel's states, for the CUDA kernels of diagonal_scan and
// dplr_scan (core/cuda/block.h).
#pragma once

#include <cstdint>

#include "core/cuda/block.h"

namespace hippodrome::mode_scan {

inline constexpr int kModes = 4;

template <class S>
struct Modes {
  S re[kModes], im[kModes];
};

template <class S>
HIPPODROME_HOST_DEVICE void set_zero(Modes<S>& x) {
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) x.re[k] = x.im[k] = S(0);
}
template <class S>
HIPPODROME_HOST_DEVICE Modes<S> conjugate(const Modes<S>& v) {
  Modes<S> x;
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) {
    x.re[k] = v.re[k];
    x.im[k] = -v.im[k];
  }
  return x;
}

// ---- products ----

template <class S>
HIPPODROME_HOST_DEVICE Modes<S> product(const Modes<S>& v, S factor) {
  Modes<S> x;
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) {
    x.re[k] = v.re[k] * factor;
    x.im[k] = v.im[k] * factor;
  }
  return x;
}
// x ← v x, and x ← v* x.
template <class S>
HIPPODROME_HOST_DEVICE void multiply(const Modes<S>& v, Modes<S>& x) {
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) {
    const S re = v.re[k] * x.re[k] - v.im[k] * x.im[k];
    x.im[k] = v.re[k] * x.im[k] + v.im[k] * x.re[k];
    x.re[k] = re;
  }
}
template <class S>
HIPPODROME_HOST_DEVICE void multiply_conjugate(const Modes<S>& v, Modes<S>& x) {
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) {
    const S re = v.re[k] * x.re[k] + v.im[k] * x.im[k];
    x.im[k] = v.re[k] * x.im[k] - v.im[k] * x.re[k];
    x.re[k] = re;
  }
}
// x ← v x + y, two multiply-adds behind each other.
template <class S>
HIPPODROME_HOST_DEVICE void multiply_add(const Modes<S>& v, const Modes<S>& y, Modes<S>& x) {
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) {
    const S re = v.re[k] * x.re[k] + (y.re[k] - v.im[k] * x.im[k]);
    x.im[k] = v.re[k] * x.im[k] + (y.im[k] + v.im[k] * x.re[k]);
    x.re[k] = re;
  }
}
// x += factor v, and x += factor v*.
template <class S>
HIPPODROME_HOST_DEVICE void add(const Modes<S>& v, S factor, Modes<S>& x) {
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) {
    x.re[k] += v.re[k] * factor;
    x.im[k] += v.im[k] * factor;
  }
}
template <class S>
HIPPODROME_HOST_DEVICE void add_conjugate(const Modes<S>& v, S factor, Modes<S>& x) {
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) {
    x.re[k] += v.re[k] * factor;
    x.im[k] -= v.im[k] * factor;
  }
}

// ---- sums over the thread's states: Re Σ v x, and Re Σ v* x ----

template <class S>
HIPPODROME_HOST_DEVICE S read_out(const Modes<S>& v, const Modes<S>& x) {
  S re(0), im(0);
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) {
    re += v.re[k] * x.re[k];
    im += v.im[k] * x.im[k];
  }
  return re - im;
}
template <class S>
HIPPODROME_HOST_DEVICE S scalar_product(const Modes<S>& v, const Modes<S>& x) {
  S re(0), im(0);
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) {
    re += v.re[k] * x.re[k];
    im += v.im[k] * x.im[k];
  }
  return re + im;
}

// ---- row `row` of [rows, N, 2], of which `m` says what is the thread's ----

// Zeros where there is no such state, or no tensor.
template <class S, class Mine>
HIPPODROME_HOST_DEVICE void load(const Mine& m, const void* from, int64_t row, Modes<S>& x) {
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) {
    const bool there = from != nullptr && m.has(k);
    const S* const at = static_cast<const S*>(from) + (there ? (row * m.states + m.n(k)) * 2 : 0);
    x.re[k] = there ? at[0] : S(0);
    x.im[k] = there ? at[1] : S(0);
  }
}
template <class S, class Mine>
HIPPODROME_HOST_DEVICE void store(const Mine& m, const Modes<S>& x, void* to, int64_t row) {
  HIPPODROME_UNROLL
  for (int k = 0; k < kModes; ++k) {
    if (!m.has(k)) continue;
    S* const at = static_cast<S*>(to) + (row * m.states + m.n(k)) * 2;
    at[0] = x.re[k];
    at[1] = x.im[k];
  }
}

}  // namespace hippodrome::mode_scan
