// State-space duality (SSD, the recurrence of Mamba-2): parameters and equations. No LibTorch here.
//
// Source: Dao and Gu, "Transformers are SSMs: Generalized Models and Efficient Algorithms Through Structured State
// Space Duality" (arXiv 2405.21060), section 6 and listing 1. Per batch row, head h (of group g = h / (H / G)) and time
// t, with a state h_t [P, N]:
//
//   dt_t = clamp(softplus(dt_raw_t + dt_bias), low, high)     (softplus optional; the identity above 20)
//   h_t  = exp(dt_t A) h_{t-1} + dt_t x_t B_t^T               (A a scalar per head, negative)
//   y_t  = (h_t C_t + D x_t) silu(z_t)                        (skip and gate optional)
//
// Chunked form. With s_i = sum_{t<=i} dt_t A inside a tile of Q steps that begins with the state h_0:
//
//   y_i = sum_{j<=i} (C_i . B_j) exp(s_i - s_j) dt_j x_j + exp(s_i) h_0 C_i
//   h_Q = exp(s_Q) h_0 + sum_j exp(s_Q - s_j) dt_j x_j B_j^T
//
// which are matrix products. The sums of dt are kept to twice the working precision, so that their differences are
// exact to it however far the state decays; entries above the diagonal, which may overflow, are masked, not multiplied
// by zero.
//
// Backward, with dy the gradient before the gate, M_ij = (C_i . B_j) exp(s_i - s_j), X_j = dt_j x_j, g the gradient of
// h_Q:
//
//   dX_j = sum_{i>=j} M_ij dy_i + exp(s_Q - s_j) g B_j        dS_ij = exp(s_i - s_j) (dy_i . X_j)
//   dC_i = sum_j dS_ij B_j + exp(s_i) h_0^T dy_i              dB_j  = sum_i dS_ij C_i + exp(s_Q - s_j) g^T X_j
//   dh_0 = exp(s_Q) g + sum_i exp(s_i) dy_i C_i^T             dx = dt dX + D dy      ddt = x . dX + A da
//
// where da_t sums the gradients of s_i over i >= t: each entry of S o dS strictly below the diagonal adds to s_i and
// takes from s_j, as do the two terms with exp(s_i) and exp(s_Q - s_j). dA weighs the same entries by the time between
// j and i, the sum of dt: a sum of da dt would cancel.
//
// positions [B, L]: -1 is padding (output 0, state kept, gradients 0), 0 starts a sequence (state zeroed first), other
// values continue. Null: every row is one run continuing from the initial state.
#pragma once

#include <cstdint>
#include <limits>

namespace hippodrome::ssd_kernel {

// Largest number of states per head, and of channels of a head, that the kernels take.
inline constexpr int64_t kMaxStates = 1024;
inline constexpr int64_t kMaxHeadSize = 1024;

// Steps of a matrix product. The work inside a tile grows with its length, that on the state does not: 64 steps add a
// tenth to the latter at N = 128, P = 64, and their matrices stay in a 512 KiB level-2 cache.
inline constexpr int64_t kTile = 64;

// Heads of a group that share a work item, and with it the products of C and B.
inline constexpr int64_t kHeadBlock = 4;

inline constexpr double kSoftplusThreshold = 20.0;  // above it softplus(x) = x

// A tensor over (b, t, i) whose innermost stride is 1: element (b, t, i) is data[b * batch + t * time + i].
template <class T>
struct Strided {
  T* data = nullptr;
  int64_t batch = 0;
  int64_t time = 0;
};

// Inputs and outputs of the forward pass. "Null" marks what may be absent.
template <class T>
struct Params {
  int64_t batch = 0;
  int64_t length = 0;
  int64_t heads = 0;
  int64_t head_size = 0;  // P
  int64_t groups = 1;
  int64_t states = 0;   // N
  int64_t chunk = 256;  // steps between two states kept for backward
  bool dt_softplus = false;
  double dt_low = 0.0;
  double dt_high = std::numeric_limits<double>::infinity();

  Strided<const T> x;                  // [B, L, H P]
  Strided<const T> dt;                 // [B, L, H]
  Strided<const T> B;                  // [B, L, G N]
  Strided<const T> C;                  // [B, L, G N]
  Strided<const T> z;                  // [B, L, H P] or null
  const T* A = nullptr;                // [H]
  const T* D = nullptr;                // [H] or null
  const T* dt_bias = nullptr;          // [H] or null
  const T* initial_state = nullptr;    // [B, H, P, N] contiguous or null (zeros)
  const int64_t* positions = nullptr;  // [B, L] contiguous or null

  T* y = nullptr;            // [B, L, H P] contiguous
  T* last_state = nullptr;   // [B, H, P, N] contiguous
  T* checkpoints = nullptr;  // [B, ceil(L / chunk), H, N, P] contiguous or null: the state before each chunk
};

// Incoming and outgoing gradients. The outgoing ones are written, not added to.
template <class T>
struct Gradients {
  Strided<const T> y;             // [B, L, H P] or null (zeros)
  const T* last_state = nullptr;  // [B, H, P, N] contiguous or null (zeros)

  T* x = nullptr;              // [B, L, H P] contiguous
  T* dt = nullptr;             // [B, L, H] contiguous
  T* z = nullptr;              // [B, L, H P] contiguous; null where there is no gate
  T* initial_state = nullptr;  // [B, H, P, N] or null

  // The reference writes the sums: B and C [B, L, G, N], A, D and dt_bias [H] (null where absent).
  // The fused kernel writes partial sums, to be added in order: B and C [B, G, head blocks, L, N], A, D and dt_bias [B,
  // H].
  T* B = nullptr;
  T* C = nullptr;
  T* A = nullptr;
  T* D = nullptr;
  T* dt_bias = nullptr;
};

inline int64_t chunks(int64_t length, int64_t chunk) { return (length + chunk - 1) / chunk; }
inline int64_t head_blocks(int64_t heads, int64_t groups) { return (heads / groups + kHeadBlock - 1) / kHeadBlock; }

// Independent work items of a pass: (batch row, group, block of heads). Any partition of them over threads gives the
// same bits.
template <class T>
int64_t work_items(const Params<T>& p) {
  return p.batch * p.groups * head_blocks(p.heads, p.groups);
}

// The CPU kernels (cpu.cpp): Highway, instruction set chosen at run time. T is float or double.
template <class T>
void forward(const Params<T>& params, int64_t begin, int64_t end);
template <class T>
void backward(const Params<T>& params, const Gradients<T>& gradients, int64_t begin, int64_t end);  // needs checkpoints

// Name of the instruction set the kernels run on, such as "AVX2" or "AVX3" (Highway's name of AVX-512).
const char* instruction_set();

}  // namespace hippodrome::ssd_kernel
