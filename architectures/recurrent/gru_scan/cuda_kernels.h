// The GRU cell of one unit, for the kernels of step_kernel.h.
#pragma once

#include "architectures/recurrent/gru_scan/cuda.h"
#include "architectures/recurrent/step_kernel.h"
#include "core/cuda/math.h"

namespace hippodrome::gru_scan_cuda {

struct Cell {
  using Step = GruScanStep;
  using StepBackward = GruScanStepBackward;
  using Place = recurrent::Place;
  static constexpr int kGates = 3;

  static HIPPODROME_KERNEL void* state(const Step& p) { return p.h; }
  static HIPPODROME_KERNEL const void* first_state(const StepBackward& p) { return p.h0; }

  template <class S>
  static HIPPODROME_KERNEL S advance(const Step& p, const Place& at, const S (&gates)[3], const S (&products)[3], S& h,
                                     S (&activated)[4]) {
    const S r = cuda::sigmoid(gates[0] + products[0]), z = cuda::sigmoid(gates[1] + products[1]);
    const S q = products[2] + static_cast<const S*>(p.bias_hn)[at.unit], n = cuda::tanh_of(gates[2] + r * q);
    activated[0] = r, activated[1] = z, activated[2] = n, activated[3] = q;
    h = (S(1) - z) * n + z * h;
    return h;
  }

  template <class S>
  static HIPPODROME_KERNEL S adjoint(const StepBackward& p, const Place& at, const S (&activated)[4], S, S before, S dh,
                                     S (&grad_products)[3]) {
    const S r = activated[0], z = activated[1], n = activated[2], q = activated[3];
    const S dn = dh * (S(1) - z) * (S(1) - n * n);
    grad_products[0] = dn * q * r * (S(1) - r);
    grad_products[1] = dh * (before - n) * z * (S(1) - z);
    grad_products[2] = dn * r;
    static_cast<S*>(p.grad_n)[at.in_token] = dn;
    return dh * z;
  }

  template <class S>
  static HIPPODROME_KERNEL S previous_h(const StepBackward&, const Place&, S before) {
    return before;
  }
};

}  // namespace hippodrome::gru_scan_cuda
