// The GRU cell of one time step and its adjoint, a thread per unit. Also compiled for the CPU, in tests.
#pragma once

#include "architectures/recurrent/gru_scan/cuda.h"
#include "architectures/recurrent/step_kernel.h"
#include "core/cuda/math.h"

namespace hippodrome::gru_scan_cuda {

using namespace recurrent;

template <class T>
struct Cell {
  using S = cuda::ScalarOf<T>;

  static HIPPODROME_KERNEL void run(const GruScanStep& p, int64_t row, int64_t unit) {
    const int64_t H = p.hidden, token = row * p.length + p.step;
    const int64_t position = position_at(p.positions, p.length, row, p.step);
    T* const y = static_cast<T*>(p.y) + token * H + unit;
    S* const h = static_cast<S*>(p.h) + row * H + unit;
    S r(0), z(0), n(0), q(0);
    if (position < 0) {
      cuda::store(S(0), y);
    } else {
      const T* const gates = static_cast<const T*>(p.gates) + row * p.gates_row + p.step * p.gates_time + unit;
      const S* const product = static_cast<const S*>(p.product) + row * 3 * H + unit;
      const bool starts = position == 0;
      r = cuda::sigmoid(cuda::load(gates[0]) + (starts ? S(0) : product[0]));
      z = cuda::sigmoid(cuda::load(gates[H]) + (starts ? S(0) : product[H]));
      q = (starts ? S(0) : product[2 * H]) + static_cast<const S*>(p.bias_hn)[unit];
      n = cuda::tanh_of(cuda::load(gates[2 * H]) + r * q);
      *h = (S(1) - z) * n + z * (starts ? S(0) : *h);
      cuda::store(*h, y);
    }
    if (p.activated == nullptr) return;
    S* const activated = static_cast<S*>(p.activated) + token * 4 * H + unit;
    activated[0] = r;
    activated[H] = z;
    activated[2 * H] = n;
    activated[3 * H] = q;
    static_cast<S*>(p.hidden_states)[token * H + unit] = *h;
  }
};

template <class T>
struct AdjointCell {
  using S = cuda::ScalarOf<T>;

  static HIPPODROME_KERNEL void run(const GruScanStepBackward& p, int64_t row, int64_t unit) {
    const int64_t H = p.hidden, L = p.length, token = row * L + p.step, state = row * H + unit;
    const int64_t position = position_at(p.positions, L, row, p.step);
    S* const grad_h = static_cast<S*>(p.grad_h) + state;
    S* const grad_products = static_cast<S*>(p.grad_products) + token * 3 * H + unit;
    S* const grad_n = static_cast<S*>(p.grad_n) + token * H + unit;
    S* const previous_h = static_cast<S*>(p.previous_h) + token * H + unit;
    const S carried = carried_gradient(*grad_h, p.positions, L, row, p.step);
    if (position < 0) {
      *grad_h = carried;
      *grad_n = *previous_h = S(0);
      HIPPODROME_UNROLL
      for (int k = 0; k < 3; ++k) grad_products[k * H] = S(0);
      return;
    }
    const S* const activated = static_cast<const S*>(p.activated) + token * 4 * H + unit;
    const S r = activated[0], z = activated[H], n = activated[2 * H], q = activated[3 * H];
    const S before = position == 0 ? S(0)
                     : p.step > 0  ? static_cast<const S*>(p.hidden_states)[(token - 1) * H + unit]
                                   : state_or_zero<S>(p.h0, state);
    const T* const grad_y = static_cast<const T*>(p.grad_y) + row * p.grad_y_row + p.step * p.grad_y_time + unit;
    const S dh = carried + cuda::load(*grad_y);
    const S dn = dh * (S(1) - z) * (S(1) - n * n);
    grad_products[0] = dn * q * r * (S(1) - r);
    grad_products[H] = dh * (before - n) * z * (S(1) - z);
    grad_products[2 * H] = dn * r;
    *grad_n = dn;
    *grad_h = dh * z;
    *previous_h = before;
  }
};

template <class Launcher>
const char* run_step(const GruScanStep& p, const Launcher& launcher) {
  return cuda::with_element(p.element, [&](auto tag) {
    return launcher.template run<StepKernel<Cell<typename decltype(tag)::Type>, GruScanStep>>(p);
  });
}

template <class Launcher>
const char* run_step_backward(const GruScanStepBackward& p, const Launcher& launcher) {
  return cuda::with_element(p.element, [&](auto tag) {
    return launcher.template run<StepKernel<AdjointCell<typename decltype(tag)::Type>, GruScanStepBackward>>(p);
  });
}

}  // namespace hippodrome::gru_scan_cuda
