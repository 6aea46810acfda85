// The LSTM cell of one unit, for the kernels of step_kernel.h.
#pragma once

#include "architectures/recurrent/lstm_scan/cuda.h"
#include "architectures/recurrent/step_kernel.h"
#include "core/cuda/math.h"

namespace hippodrome::lstm_scan_cuda {

struct Cell {
  using Step = LstmScanStep;
  using StepBackward = LstmScanStepBackward;
  using Place = recurrent::Place;
  static constexpr int kGates = 4;

  static HIPPODROME_KERNEL void* state(const Step& p) { return p.c; }
  static HIPPODROME_KERNEL const void* first_state(const StepBackward& p) { return p.c0; }

  template <class S>
  static HIPPODROME_KERNEL S advance(const Step&, const Place&, const S (&gates)[4], const S (&products)[4], S& c,
                                     S (&activated)[4]) {
    HIPPODROME_UNROLL
    for (int k = 0; k < 4; ++k) {
      const S before = gates[k] + products[k];
      activated[k] = k == 2 ? cuda::tanh_of(before) : cuda::sigmoid(before);
    }
    c = activated[1] * c + activated[0] * activated[2];
    return activated[3] * cuda::tanh_of(c);
  }

  template <class S>
  static HIPPODROME_KERNEL S adjoint(const StepBackward& p, const Place& at, const S (&activated)[4], S c, S c_before,
                                     S dh, S (&grad_products)[4]) {
    const S i = activated[0], f = activated[1], g = activated[2], o = activated[3], tanh_c = cuda::tanh_of(c);
    S* const grad_c = static_cast<S*>(p.grad_c) + at.in_row;
    const S dc = *grad_c + dh * o * (S(1) - tanh_c * tanh_c);
    grad_products[0] = dc * g * i * (S(1) - i);
    grad_products[1] = dc * c_before * f * (S(1) - f);
    grad_products[2] = dc * i * (S(1) - g * g);
    grad_products[3] = dh * tanh_c * o * (S(1) - o);
    *grad_c = at.starts() ? S(0) : dc * f;
    return S(0);
  }

  // o tanh(c_{t-1}), with the o of the last token that was not padding: hidden states are not kept.
  template <class S>
  static HIPPODROME_KERNEL S previous_h(const StepBackward& p, const Place& at, S c_before) {
    int64_t t = p.step - 1;
    while (t >= 0 && recurrent::position_at(p.positions, p.length, at.row, t) < 0) --t;
    if (t < 0) return recurrent::state_or_zero<S>(p.h0, at.in_row);
    const int64_t output_gate = ((at.row * p.length + t) * 4 + 3) * p.hidden + at.unit;
    return static_cast<const S*>(p.activated)[output_gate] * cuda::tanh_of(c_before);
  }
};

}  // namespace hippodrome::lstm_scan_cuda
