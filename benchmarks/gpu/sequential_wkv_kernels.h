// The kernels of sequential_wkv.h, in the form of core/cuda/block.h.
#pragma once

#include "architectures/rwkv/wkv4/cuda_walk.h"
#include "benchmarks/gpu/sequential_wkv.h"
#include "core/cuda/block.h"
#include "core/cuda/math.h"

namespace hippodrome::sequential_wkv {

// e^x by one instruction of a GPU, as the published kernels are compiled (--use_fast_math).
template <class S>
HIPPODROME_HOST_DEVICE S power_of_e(S x) {
  return cuda::exp2_of(S(cuda::kLog2E) * x);
}

struct Launch {
  static constexpr int kThreads = 32;
  static int64_t blocks(const Inputs& p) { return cuda::ceil_div(p.batch * p.channels, kThreads); }
  static int64_t shared_bytes(const Inputs&) { return 0; }
};

template <class T>
struct ForwardKernel : Launch {
  using S = cuda::ScalarOf<T>;

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Forward& p) {
    block.alone([&](int thread) {
      const int64_t index = block.index() * kThreads + thread;
      if (index >= p.batch * p.channels) return;
      const int64_t C = p.channels, c = index % C, start = index / C * p.time * C + c;
      const T* const k = static_cast<const T*>(p.k) + start;
      const T* const v = static_cast<const T*>(p.v) + start;
      T* const y = static_cast<T*>(p.y) + start;
      const S w = static_cast<const S*>(p.w)[c], u = static_cast<const S*>(p.u)[c];
      S n = S(0), d = S(0), m = S(kWkv4FreshMaximum);
      for (int64_t t = 0; t < p.time; ++t) {
        const S key = cuda::load(k[t * C]), value = cuda::load(v[t * C]);
        const S top = cuda::larger(m, u + key);
        const S old = power_of_e(m - top), bonus = power_of_e(u + key - top);
        cuda::store((old * n + bonus * value) * cuda::reciprocal_of(old * d + bonus), y + t * C);
        const S next = cuda::larger(m + w, key);
        const S decayed = power_of_e(m + w - next), added = power_of_e(key - next);
        n = decayed * n + added * value;
        d = decayed * d + added;
        m = next;
      }
    });
  }
};

// Forward once more for the slopes of n and d by w, and back for the gradients of k and v. Kept of step t, with the
// denominator e^q D: g / D, and q.
template <class T>
struct BackwardKernel : Launch {
  using S = cuda::ScalarOf<T>;

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Backward& p) {
    block.alone([&](int thread) {
      const int64_t index = block.index() * kThreads + thread;
      if (index >= p.batch * p.channels) return;
      const int64_t C = p.channels, c = index % C, start = index / C * p.time * C + c;
      const T* const k = static_cast<const T*>(p.k) + start;
      const T* const v = static_cast<const T*>(p.v) + start;
      const T* const y = static_cast<const T*>(p.y) + start;
      const T* const grad_y = static_cast<const T*>(p.grad_y) + start;
      S* const quotients = static_cast<S*>(p.kept) + start;
      S* const tops = quotients + p.batch * p.time * C;
      const S w = static_cast<const S*>(p.w)[c], u = static_cast<const S*>(p.u)[c];

      S n = S(0), d = S(0), m = S(kWkv4FreshMaximum);
      S slope_n = S(0), slope_d = S(0);  // ∂n/∂w and ∂d/∂w, scaled as n and d
      S grad_w = S(0), grad_u = S(0);
      for (int64_t t = 0; t < p.time; ++t) {
        const S key = cuda::load(k[t * C]), value = cuda::load(v[t * C]), out = cuda::load(y[t * C]);
        const S top = cuda::larger(m, u + key);
        const S old = power_of_e(m - top), bonus = power_of_e(u + key - top);
        const S quotient = cuda::load(grad_y[t * C]) * cuda::reciprocal_of(old * d + bonus);
        grad_w += quotient * old * (slope_n - out * slope_d);
        grad_u += quotient * bonus * (value - out);
        quotients[t * C] = quotient;
        tops[t * C] = top;
        const S next = cuda::larger(m + w, key);
        const S decayed = power_of_e(m + w - next), added = power_of_e(key - next);
        slope_n = decayed * (slope_n + n);
        slope_d = decayed * (slope_d + d);
        n = decayed * n + added * value;
        d = decayed * d + added;
        m = next;
      }
      static_cast<S*>(p.grad_w_rows)[index] = grad_w;
      static_cast<S*>(p.grad_u_rows)[index] = grad_u;

      // gn e^m and gd e^m: the gradients of the true sums behind step t.
      S gn = S(0), gd = S(0);
      m = S(kWkv4FreshMaximum);
      for (int64_t t = p.time - 1; t >= 0; --t) {
        const S key = cuda::load(k[t * C]), value = cuda::load(v[t * C]), out = cuda::load(y[t * C]);
        const S quotient = quotients[t * C], top = tops[t * C];
        const S own = quotient * power_of_e(u + key - top), later = power_of_e(key + m);
        cuda::store(own * (value - out) + later * (gn * value + gd), static_cast<T*>(p.grad_k) + start + t * C);
        cuda::store(own + later * gn, static_cast<T*>(p.grad_v) + start + t * C);
        const S next = cuda::larger(m + w, -top);
        const S decayed = power_of_e(m + w - next), added = quotient * power_of_e(-top - next);
        gn = decayed * gn + added;
        gd = decayed * gd - added * out;
        m = next;
      }
    });
  }
};

template <class Launcher>
const char* run_forward(const Forward& p, const Launcher& launcher) {
  return cuda::with_element(
      p.type, [&](auto tag) { return launcher.template run<ForwardKernel<typename decltype(tag)::Type>>(p); });
}
template <class Launcher>
const char* run_backward(const Backward& p, const Launcher& launcher) {
  return cuda::with_element(
      p.type, [&](auto tag) { return launcher.template run<BackwardKernel<typename decltype(tag)::Type>>(p); });
}

}  // namespace hippodrome::sequential_wkv
