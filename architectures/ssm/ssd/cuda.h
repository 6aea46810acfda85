// SSD on the GPU: parameters and entry points of the kernels. No CUDA and no LibTorch headers, so that both sides can
// include it. Equations and shapes: op.h; how the work is divided: cuda_kernels.h.
#pragma once

#include <cstdint>
#include <limits>

#include "architectures/ssm/ssd/op.h"
#include "core/cuda/block.h"
#include "core/cuda/element.h"

namespace hippodrome::ssd_kernel {

// Most steps between two states that the kernels hold. Work inside a unit grows with its length, memory and traffic for
// states shrink with it; 256 is also the published chunk.
inline constexpr int64_t kMaxUnit = 256;
// Longer chunks are divided into units of a multiple of this.
inline constexpr int64_t kUnitStep = 64;
// Side of the smallest tiles: what work space per tile is allocated for.
inline constexpr int64_t kSmallestSide = 32;

// Up to this many steps whose states are not kept are taken one after another: the products of tiles would be mostly
// zeros, in four launches instead of one.
inline constexpr int64_t kSequentialSteps = 8;

// A sequence in units: chunks of `chunk` steps, each of `per_chunk` units of `unit` steps (the last of a chunk and of
// the sequence may be shorter).
struct Units {
  int64_t length, chunk, unit, per_chunk, count;

  HIPPODROME_HOST_DEVICE int64_t begin(int64_t u) const { return u / per_chunk * chunk + u % per_chunk * unit; }
  HIPPODROME_HOST_DEVICE int64_t end(int64_t u) const {
    const int64_t after = u % per_chunk == per_chunk - 1 ? (u / per_chunk + 1) * chunk : begin(u) + unit;
    return after < length ? after : length;
  }
};

HIPPODROME_HOST_DEVICE Units units_of(int64_t length, int64_t chunk) {
  const int64_t parts = cuda::ceil_div(chunk, kMaxUnit);
  const int64_t unit = parts == 1 ? chunk : cuda::ceil_div(cuda::ceil_div(chunk, parts), kUnitStep) * kUnitStep;
  const int64_t per_chunk = cuda::ceil_div(chunk, unit);
  return {length, chunk, unit, per_chunk, length / chunk * per_chunk + cuda::ceil_div(length % chunk, unit)};
}

// Rows of the work space Params::steps: what is known of each step before the matrix products.
enum StepFact {
  kStepSize,  // dt; 0 for padding
  kTimeHigh,  // time passed since the unit's start, the sum of dt up to the step: high + low
  kTimeLow,
  kDecayIn,   // exp(s_i): of the state before the unit in step i; 0 behind the unit's first reset and for padding
  kDecayOut,  // exp(s_Q - s_j): of step j in the state behind the unit; 0 before the unit's last reset and for padding
  kStepFacts
};

// Sums per step that backward's products leave for the gradient of dt. Those over channels of a head come in one row
// for each tile of channels; those over later steps in one row for each tile of earlier steps.
struct StepSums {
  int64_t channel_tiles, step_tiles;

  HIPPODROME_HOST_DEVICE int64_t from_state(int64_t tile) const { return tile; }            // dy_i . exp(s_i) h_0 C_i
  HIPPODROME_HOST_DEVICE int64_t skip(int64_t tile) const { return channel_tiles + tile; }  // dy_i . x_i
  HIPPODROME_HOST_DEVICE int64_t to_state(int64_t tile) const { return 2 * channel_tiles + tile; }  // see op.h
  HIPPODROME_HOST_DEVICE int64_t input(int64_t tile) const { return 3 * channel_tiles + tile; }     // x_j . dX_j
  HIPPODROME_HOST_DEVICE int64_t column() const { return 4 * channel_tiles; }  // of S o dS below the diagonal
  HIPPODROME_HOST_DEVICE int64_t column_time() const { return column() + 1; }  // the same, weighed by the time between
  HIPPODROME_HOST_DEVICE int64_t row(int64_t tile) const { return column() + 2 + tile; }
  HIPPODROME_HOST_DEVICE int64_t count() const { return row(step_tiles); }
};

HIPPODROME_HOST_DEVICE StepSums step_sums_of(int64_t head_size, const Units& units) {
  const int64_t unit = units.unit < units.length ? units.unit : units.length;
  return {cuda::ceil_div(head_size, kSmallestSide), cuda::ceil_div(unit, kSmallestSide)};
}

// Device pointers; "T" is `type`, "S" its cuda::ScalarOf. Absent inputs are null. Strides in elements.
struct CudaParams {
  int64_t batch = 0;
  int64_t length = 0;
  int64_t heads = 0;
  int64_t head_size = 0;  // P
  int64_t groups = 1;
  int64_t states = 0;  // N
  int64_t chunk = 256;
  bool dt_softplus = false;
  double dt_low = 0.0;
  double dt_high = std::numeric_limits<double>::infinity();
  cuda::Element type = cuda::Element::kFloat;
  cuda::Element dt_type = cuda::Element::kFloat;

  Strided<const void> x;                // T [B, L, H P]
  Strided<const void> dt;               // dt_type [B, L, H]
  Strided<const void> B;                // T [B, L, G N]
  Strided<const void> C;                // T [B, L, G N]
  Strided<const void> z;                // T [B, L, H P] or null
  const void* A = nullptr;              // S [H]
  const void* D = nullptr;              // S [H] or null
  const void* dt_bias = nullptr;        // S [H] or null
  const void* initial_state = nullptr;  // S [B, H, P, N] contiguous or null (zeros)
  const int64_t* positions = nullptr;   // [B, L] contiguous or null

  // Forward writes these; backward has no use for them.
  void* y = nullptr;            // T [B, L, H P] contiguous
  void* last_state = nullptr;   // S [B, H, P, N] contiguous
  void* checkpoints = nullptr;  // S [B, ceil(L / chunk), H, N, P] contiguous or null: copies of unit_states

  // Work space, contiguous; not for few steps without keeps_states.
  void* unit_states = nullptr;   // S [B, units, H, N, P]: the state before each unit
  bool keeps_states = false;     // forward: unit_states or checkpoints are wanted
  bool has_unit_states = false;  // backward: unit_states are as forward left them, and need not be made again
  void* steps = nullptr;         // S [kStepFacts, B, H, L]
  void* unit_decays = nullptr;   // S [B, units, H]: exp(s_Q), of the state before the unit in that behind it, or 0
  int32_t* sequences = nullptr;  // [B, L]: starts of sequences in the unit up to a step; for padding the complement
};

struct CudaGradients {
  CudaParams in;
  Strided<const void> y;             // T [B, L, H P] or null (zeros)
  const void* last_state = nullptr;  // S [B, H, P, N] contiguous or null (zeros)

  void* x = nullptr;              // T [B, L, H P] contiguous
  void* dt = nullptr;             // S [B, L, H] contiguous
  void* z = nullptr;              // T [B, L, H P] contiguous; null without a gate
  void* initial_state = nullptr;  // S [B, H, P, N] or null
  // Partial sums, which the binding adds up.
  void* B = nullptr;          // S [head blocks, B, L, G, N]
  void* C = nullptr;          // the same
  double* A = nullptr;        // [B, units, H]
  double* D = nullptr;        // [B, units, H]
  double* dt_bias = nullptr;  // [B, units, H]

  // Work space, contiguous.
  void* unit_states = nullptr;  // S [B, units, H, N, P]: the gradient of the state behind each unit
  void* step_sums = nullptr;    // S [StepSums::count(), B, H, L]
  void* before_gate = nullptr;  // T [B, L, H P]: the gradient of y before the gate; null without a gate
};

// Enqueue the kernels on `stream` (a cudaStream_t) of the current device. Return null, or CUDA's words for what went
// wrong.
const char* ssd_forward_cuda(const CudaParams& p, void* stream);
const char* ssd_backward_cuda(const CudaGradients& p, void* stream);

}  // namespace hippodrome::ssd_kernel
