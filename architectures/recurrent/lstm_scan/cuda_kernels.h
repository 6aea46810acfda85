// The LSTM cell of one time step and its adjoint, a thread per unit. Also compiled for the CPU, in tests.
#pragma once

#include "architectures/recurrent/lstm_scan/cuda.h"
#include "architectures/recurrent/step_kernel.h"
#include "core/cuda/math.h"

namespace hippodrome::lstm_scan_cuda {

using namespace recurrent;

template <class T>
struct Cell {
  using S = cuda::ScalarOf<T>;

  static HIPPODROME_KERNEL void run(const LstmScanStep& p, int64_t row, int64_t unit) {
    const int64_t H = p.hidden, token = row * p.length + p.step;
    const int64_t position = position_at(p.positions, p.length, row, p.step);
    T* const y = static_cast<T*>(p.y) + token * H + unit;
    S* const c = static_cast<S*>(p.c) + row * H + unit;
    S gate[4] = {};
    if (position < 0) {
      cuda::store(S(0), y);
    } else {
      const T* const gates = static_cast<const T*>(p.gates) + row * p.gates_row + p.step * p.gates_time + unit;
      const S* const product = static_cast<const S*>(p.product) + row * 4 * H + unit;
      HIPPODROME_UNROLL
      for (int k = 0; k < 4; ++k) {
        const S before = cuda::load(gates[k * H]) + (position == 0 ? S(0) : product[k * H]);
        gate[k] = k == 2 ? cuda::tanh_of(before) : cuda::sigmoid(before);
      }
      *c = gate[1] * (position == 0 ? S(0) : *c) + gate[0] * gate[2];
      const S h = gate[3] * cuda::tanh_of(*c);
      static_cast<S*>(p.h)[row * H + unit] = h;
      cuda::store(h, y);
    }
    if (p.activated == nullptr) return;
    S* const activated = static_cast<S*>(p.activated) + token * 4 * H + unit;
    HIPPODROME_UNROLL
    for (int k = 0; k < 4; ++k) activated[k * H] = gate[k];
    static_cast<S*>(p.cells)[token * H + unit] = *c;
  }
};

template <class T>
struct AdjointCell {
  using S = cuda::ScalarOf<T>;

  static HIPPODROME_KERNEL void run(const LstmScanStepBackward& p, int64_t row, int64_t unit) {
    const int64_t H = p.hidden, L = p.length, token = row * L + p.step, state = row * H + unit;
    const int64_t position = position_at(p.positions, L, row, p.step);
    S* const grad_h = static_cast<S*>(p.grad_h) + state;
    S* const grad_c = static_cast<S*>(p.grad_c) + state;
    S* const grad_gates = static_cast<S*>(p.grad_gates) + token * 4 * H + unit;
    S* const previous_h = static_cast<S*>(p.previous_h) + token * H + unit;
    const S carried = carried_gradient(*grad_h, p.positions, L, row, p.step);
    if (position < 0) {
      *grad_h = carried;
      *previous_h = S(0);
      HIPPODROME_UNROLL
      for (int k = 0; k < 4; ++k) grad_gates[k * H] = S(0);
      return;
    }
    const S* const activated = static_cast<const S*>(p.activated) + token * 4 * H + unit;
    const S i = activated[0], f = activated[H], g = activated[2 * H], o = activated[3 * H];
    const S tanh_c = cuda::tanh_of(static_cast<const S*>(p.cells)[token * H + unit]);
    const S c_before = position == 0 ? S(0)
                       : p.step > 0  ? static_cast<const S*>(p.cells)[(token - 1) * H + unit]
                                     : state_or_zero<S>(p.c0, state);
    const T* const grad_y = static_cast<const T*>(p.grad_y) + row * p.grad_y_row + p.step * p.grad_y_time + unit;
    const S dh = carried + cuda::load(*grad_y);
    const S dc = *grad_c + dh * o * (S(1) - tanh_c * tanh_c);
    grad_gates[0] = dc * g * i * (S(1) - i);
    grad_gates[H] = dc * c_before * f * (S(1) - f);
    grad_gates[2 * H] = dc * i * (S(1) - g * g);
    grad_gates[3 * H] = dh * tanh_c * o * (S(1) - o);
    *grad_c = position == 0 ? S(0) : dc * f;
    *grad_h = S(0);
    *previous_h = position == 0 ? S(0) : state_before(p, row, unit, c_before);
  }

 private:
  // h_{t-1} = o tanh(c_{t-1}), with the o of the last token that was not padding: hidden states are not kept.
  static HIPPODROME_KERNEL S state_before(const LstmScanStepBackward& p, int64_t row, int64_t unit, S c_before) {
    int64_t t = p.step - 1;
    while (t >= 0 && position_at(p.positions, p.length, row, t) < 0) --t;
    if (t < 0) return state_or_zero<S>(p.h0, row * p.hidden + unit);
    const int64_t output_gate = ((row * p.length + t) * 4 + 3) * p.hidden + unit;
    return static_cast<const S*>(p.activated)[output_gate] * cuda::tanh_of(c_before);
  }
};

template <class Launcher>
const char* run_step(const LstmScanStep& p, const Launcher& launcher) {
  return cuda::with_element(p.element, [&](auto tag) {
    return launcher.template run<StepKernel<Cell<typename decltype(tag)::Type>, LstmScanStep>>(p);
  });
}

template <class Launcher>
const char* run_step_backward(const LstmScanStepBackward& p, const Launcher& launcher) {
  return cuda::with_element(p.element, [&](auto tag) {
    return launcher.template run<StepKernel<AdjointCell<typename decltype(tag)::Type>, LstmScanStepBackward>>(p);
  });
}

}  // namespace hippodrome::lstm_scan_cuda
