// The elementwise CUDA kernels of the recurrent scans (lstm_scan, gru_scan): one launch is one time step, one thread
// one unit of one row. The recurrent product of the step is a matrix product before (forward) or after (backward) it,
// see step_loop.h. The cell is a struct with
//
//   using Step, StepBackward;                         those of step.h and what only this cell has
//   static constexpr int kGates;
//   static void* state(const Step& p);                [B, H]: the state that the cell changes
//   static const void* first_state(const StepBackward& p);     [B, H]: before the first token, or null for zeros
//
//   h and the next state of a unit, from its gates, its products and the present state; what the adjoint needs
//   static S advance(const Step& p, const Place& at, const S (&gates)[kGates], const S (&products)[kGates], S& state,
//                    S (&activated)[kActivated]);
//
//   from the gradient of h_t, with the states after and before the token: the gradients of the products, and as result
//   that of h_{t-1} beside them
//   static S adjoint(const StepBackward& p, const Place& at, const S (&activated)[kActivated], S state, S before, S dh,
//                    S (&grad_products)[kGates]);
//   static S previous_h(const StepBackward& p, const Place& at, S before);     h_{t-1} of a token that starts nothing
//
// for S float and double. Also compiled for the CPU, in tests.
#pragma once

#include <cstdint>

#include "architectures/recurrent/step.h"
#include "core/cuda/block.h"

namespace hippodrome::recurrent {

// positions [B, L], or null: every token continues. So does what is after the last one.
HIPPODROME_HOST_DEVICE int64_t position_at(const int64_t* positions, int64_t length, int64_t row, int64_t t) {
  return positions != nullptr && t < length ? positions[row * length + t] : 1;
}

// A unit of a row at a time step.
struct Place {
  int64_t row, unit;
  int64_t in_row, in_token;  // where the unit is in [B, H] and in [B, L, H]
  int64_t position;

  // Where its first number is in [B, L, count H]; the next is H further.
  HIPPODROME_HOST_DEVICE int64_t in_token_of(int count) const { return (in_token - unit) * count + unit; }
  HIPPODROME_HOST_DEVICE bool padding() const { return position < 0; }
  HIPPODROME_HOST_DEVICE bool starts() const { return position == 0; }
};
template <class Params>
HIPPODROME_HOST_DEVICE Place place_of(const Params& p, int64_t index) {
  const int64_t row = index / p.hidden, unit = index % p.hidden;
  return {row, unit, index, (row * p.length + p.step) * p.hidden + unit,
          position_at(p.positions, p.length, row, p.step)};
}

// A state [B, H] that may be absent: zeros.
template <class S>
HIPPODROME_HOST_DEVICE S state_or_zero(const void* state, int64_t at) {
  return state != nullptr ? static_cast<const S*>(state)[at] : S(0);
}

// A thread per unit. What it writes, no other reads.
template <class Unit, class Params>
struct StepKernel {
  static constexpr int kThreads = 128;
  static HIPPODROME_HOST_DEVICE int64_t units(const Params& p) { return p.batch * p.hidden; }
  static int64_t blocks(const Params& p) { return cuda::ceil_div(units(p), kThreads); }
  static int64_t shared_bytes(const Params&) { return 0; }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Params& p) {
    block.alone([&](int thread) {
      const int64_t index = block.index() * kThreads + thread;
      if (index < units(p)) Unit::run(p, place_of(p, index));
    });
  }
};

template <class Cell, class T>
struct Forward {
  using S = cuda::ScalarOf<T>;
  static constexpr int kGates = Cell::kGates;

  static HIPPODROME_KERNEL void run(const typename Cell::Step& p, const Place& at) {
    const int64_t H = p.hidden;
    T* const y = static_cast<T*>(p.y) + at.in_token;
    S* const state = static_cast<S*>(Cell::state(p)) + at.in_row;
    S activated[kActivated] = {};
    if (at.padding()) {
      cuda::store(S(0), y);
    } else {
      const T* const gates = static_cast<const T*>(p.gates) + at.row * p.gates_row + p.step * p.gates_time + at.unit;
      const S* const product = static_cast<const S*>(p.product) + at.row * kGates * H + at.unit;
      S x[kGates], products[kGates];
      HIPPODROME_UNROLL
      for (int k = 0; k < kGates; ++k) {
        x[k] = cuda::load(gates[k * H]);
        products[k] = at.starts() ? S(0) : product[k * H];
      }
      S next = at.starts() ? S(0) : *state;
      const S h = Cell::advance(p, at, x, products, next, activated);
      *state = next;
      static_cast<S*>(p.h)[at.in_row] = h;
      cuda::store(h, y);
    }
    if (p.activated == nullptr) return;
    S* const kept = static_cast<S*>(p.activated) + at.in_token_of(kActivated);
    HIPPODROME_UNROLL
    for (int k = 0; k < kActivated; ++k) kept[k * H] = activated[k];
    static_cast<S*>(p.states)[at.in_token] = *state;
  }
};

template <class Cell, class T>
struct Backward {
  using S = cuda::ScalarOf<T>;
  static constexpr int kGates = Cell::kGates;

  static HIPPODROME_KERNEL void run(const typename Cell::StepBackward& p, const Place& at) {
    const int64_t H = p.hidden;
    S* const grad_h = static_cast<S*>(p.grad_h) + at.in_row;
    S grad_products[kGates] = {}, previous_h(0);
    // A token that starts a sequence passes nothing back, although its product was added.
    const bool cut = position_at(p.positions, p.length, at.row, p.step + 1) == 0;
    const S carried = cut ? S(0) : *grad_h;
    if (at.padding()) {
      *grad_h = carried;
    } else {
      const S* const kept = static_cast<const S*>(p.activated) + at.in_token_of(kActivated);
      const S* const states = static_cast<const S*>(p.states) + at.in_token;
      S activated[kActivated];
      HIPPODROME_UNROLL
      for (int k = 0; k < kActivated; ++k) activated[k] = kept[k * H];
      const S before = at.starts()  ? S(0)
                       : p.step > 0 ? *(states - H)
                                    : state_or_zero<S>(Cell::first_state(p), at.in_row);
      const T* const grad_y =
          static_cast<const T*>(p.grad_y) + at.row * p.grad_y_row + p.step * p.grad_y_time + at.unit;
      *grad_h = Cell::adjoint(p, at, activated, *states, before, carried + cuda::load(*grad_y), grad_products);
      if (!at.starts()) previous_h = Cell::previous_h(p, at, before);
    }
    S* const to = static_cast<S*>(p.grad_products) + at.in_token_of(kGates);
    HIPPODROME_UNROLL
    for (int k = 0; k < kGates; ++k) to[k * H] = grad_products[k];
    static_cast<S*>(p.previous_h)[at.in_token] = previous_h;
  }
};

template <class Cell, class Launcher>
const char* run_step(const typename Cell::Step& p, const Launcher& launcher) {
  return cuda::with_element(p.element, [&](auto tag) {
    using Unit = Forward<Cell, typename decltype(tag)::Type>;
    return launcher.template run<StepKernel<Unit, typename Cell::Step>>(p);
  });
}

template <class Cell, class Launcher>
const char* run_step_backward(const typename Cell::StepBackward& p, const Launcher& launcher) {
  return cuda::with_element(p.element, [&](auto tag) {
    using Unit = Backward<Cell, typename decltype(tag)::Type>;
    return launcher.template run<StepKernel<Unit, typename Cell::StepBackward>>(p);
  });
}

}  // namespace hippodrome::recurrent
