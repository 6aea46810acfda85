// The frame of the elementwise CUDA kernels of the recurrent scans (lstm_scan, gru_scan): one launch is one time step,
// one thread one unit of one row. The recurrent product of the step is a matrix product before (forward) or after
// (backward) it, see step_loop.h.
#pragma once

#include <cstdint>

#include "core/cuda/block.h"

namespace hippodrome::recurrent {

// Cell::run(p, row, unit) is the step for one unit, with p.batch rows of p.hidden units; it writes nothing that another
// unit's reads.
template <class Cell, class Params>
struct StepKernel {
  static constexpr int kThreads = 128;
  static HIPPODROME_HOST_DEVICE int64_t units(const Params& p) { return p.batch * p.hidden; }
  static int64_t blocks(const Params& p) { return cuda::ceil_div(units(p), kThreads); }
  static int64_t shared_bytes(const Params&) { return 0; }

  template <class Block>
  static HIPPODROME_KERNEL void run(Block& block, const Params& p) {
    block.alone([&](int thread) {
      const int64_t unit = block.index() * kThreads + thread;
      if (unit < units(p)) Cell::run(p, unit / p.hidden, unit % p.hidden);
    });
  }
};

// positions [B, L], or null: every token continues. So does what is after the last one.
HIPPODROME_HOST_DEVICE int64_t position_at(const int64_t* positions, int64_t length, int64_t row, int64_t t) {
  return positions != nullptr && t < length ? positions[row * length + t] : 1;
}

// A state [B, H] that may be absent: zeros.
template <class S>
HIPPODROME_HOST_DEVICE S state_or_zero(const void* state, int64_t at) {
  return state != nullptr ? static_cast<const S*>(state)[at] : S(0);
}

// The gradient of h_t from later tokens, given what the step after t left: a token that starts a sequence passes
// nothing back, although its product was added.
template <class S>
HIPPODROME_HOST_DEVICE S carried_gradient(S left, const int64_t* positions, int64_t length, int64_t row, int64_t t) {
  return position_at(positions, length, row, t + 1) == 0 ? S(0) : left;
}

}  // namespace hippodrome::recurrent
