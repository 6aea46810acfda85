// Selective scan (S6, the recurrence of Mamba-1): parameters and equations. No LibTorch here.
//
// Source: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces" (arXiv 2312.00752),
// Algorithm 2. Per batch row b, channel d (of group g = d / (channels / groups)), time t and state n:
//
//   delta_t = softplus(delta_raw_t + delta_bias)      (softplus optional; the identity above 20)
//   abar_t  = exp(delta_t A_n)                        (zero-order hold, eq. 4)
//   h_t     = abar_t h_{t-1} + phi_t B_{t,n} u_t      (phi = delta: Euler for B, as every implementation does; or the
//                                                      paper's eq. 4, phi = (abar - 1) / A: zero_order_hold)
//   y_t     = (sum_n C_{t,n} h_t + D u_t) silu(z_t)   (skip and gate optional)
//
// complex: A, B, C and h are complex, the sum is 2 Re(sum_n C h). They are kept as pairs of real numbers: N is even,
// the first N / 2 places along every axis of states are the real parts, the others the imaginary ones.
//
// Backward, with p_t = abar_t h_{t-1} always as this product (h_t - bbar_t cancels when the input dominates),
// dy_t = dout_t silu(z_t), g_t = dy_t C_t + abar_{t+1} g_{t+1}, g_{L+1} seeded with the gradient of the last state:
//
//   du = D dy + delta sum_n g B        ddelta = sum_n g (B u + A p)     dA = sum_{b,t} g delta p     dh_0 = abar_1 g_1
//   dB = sum_d g delta u               dC = sum_d dy h                  dD = sum dy u
//   dz = dout y_ungated sigmoid(z) (1 + z (1 - sigmoid(z)))             ddelta_raw = ddelta sigmoid(delta_raw +
//   delta_bias)
//
// With phi: du = D dy + sum_n Re(conj(g) phi B), ddelta = sum_n Re(conj(g) (A p + dphi/ddelta B u)) where dphi/ddelta
// is 1 or abar; dA gains conj(delta^2 psi B u) g, psi = (abar - phi / delta) / (delta A), for zero_order_hold; a
// complex output doubles dy, and every factor is conjugated: g_t = 2 dy_t conj(C_t) + conj(abar_{t+1}) g_{t+1}.
//
// positions [B, L]: -1 is padding (output 0, state kept, gradients 0), 0 starts a sequence (state zeroed first), other
// values continue. Null: every row is one run continuing from the initial state.
#pragma once

#include <cstdint>

namespace hippodrome::s6 {

// Largest number of states per channel the kernels take.
inline constexpr int64_t kMaxStates = 256;

// Steps between two states kept for backward; backward recomputes the steps in between. 64 keeps the checkpoints at N /
// 64 of the size of u (a quarter at N = 16) and a chunk's working set within a 1 MiB level-2 cache.
inline constexpr int64_t kChunk = 64;

// Channels whose dB and dC are summed before they are written: the partial sums take 2 N / 64 of the size of u.
inline constexpr int64_t kSuperblock = 64;

inline constexpr double kSoftplusThreshold = 20.0;  // above it softplus(x) = x

// A tensor over (b, t, i) whose innermost stride is 1: element (b, t, i) is data[b * batch + t * time + i].
template <class T>
struct Strided {
  T* data = nullptr;
  int64_t batch = 0;
  int64_t time = 0;
};

// B and C: element (b, g, t, n) is data[b * batch + g * group + t * time + n].
template <class T>
struct StridedGroups {
  const T* data = nullptr;
  int64_t batch = 0;
  int64_t group = 0;
  int64_t time = 0;
};

// Inputs and outputs of the forward pass. "Null" marks what may be absent.
template <class T>
struct Params {
  int64_t batch = 0;
  int64_t channels = 0;
  int64_t length = 0;
  int64_t groups = 1;
  int64_t states = 0;
  bool delta_softplus = false;
  bool complex = false;
  bool zero_order_hold = false;

  Strided<const T> u;                  // [B, L, D]
  Strided<const T> delta;              // [B, L, D]
  Strided<const T> z;                  // [B, L, D] or null
  const T* A = nullptr;                // [D, N] contiguous
  StridedGroups<T> B;                  // [B, G, L, N]
  StridedGroups<T> C;                  // [B, G, L, N]
  const T* D = nullptr;                // [D] or null
  const T* delta_bias = nullptr;       // [D] or null
  const T* initial_state = nullptr;    // [B, D, N] contiguous or null (zeros)
  const int64_t* positions = nullptr;  // [B, L] contiguous or null

  T* y = nullptr;            // [B, L, D] contiguous
  T* last_state = nullptr;   // [B, D, N] contiguous
  T* checkpoints = nullptr;  // [B, ceil(L / kChunk), N, D] contiguous or null: the state before each chunk
};

// Whether the kernels for complex numbers or zero-order hold must run: they take one state at a time.
template <class T>
bool is_general(const Params<T>& p) {
  return p.complex || p.zero_order_hold;
}

// Incoming and outgoing gradients. The outgoing ones are written, not added to.
template <class T>
struct Gradients {
  Strided<const T> y;             // [B, L, D] or null (zeros)
  const T* last_state = nullptr;  // [B, D, N] contiguous or null (zeros)

  T* u = nullptr;  // [B, L, D] contiguous, as are delta and z
  T* delta = nullptr;
  T* z = nullptr;              // null where there is no gate
  T* initial_state = nullptr;  // [B, D, N] or null

  // The reference writes the sums: A [D, N], B and C [B, L, G, N], D and delta_bias [D] (null where absent).
  // The fused kernel writes partial sums, to be added in order: A [B, N, D], B and C [B, G, superblocks, L, N], D and
  // delta_bias [B, D].
  T* A = nullptr;
  T* B = nullptr;
  T* C = nullptr;
  T* D = nullptr;
  T* delta_bias = nullptr;
};

inline int64_t chunks(int64_t length) { return (length + kChunk - 1) / kChunk; }
inline int64_t superblocks(int64_t channels, int64_t groups) {
  return (channels / groups + kSuperblock - 1) / kSuperblock;
}

// The CPU kernels (cpu.cpp): Highway, instruction set chosen at run time. A pass is a number of independent work items;
// any partition of them over threads gives the same bits. T is float or double.
template <class T>
int64_t forward_items(const Params<T>& params);
template <class T>
void forward(const Params<T>& params, int64_t begin, int64_t end);
template <class T>
int64_t backward_items(const Params<T>& params);
template <class T>
void backward(const Params<T>& params, const Gradients<T>& gradients, int64_t begin, int64_t end);  // needs checkpoints

// The vectorised elementary functions of the kernels over an array, for the tests that bound their errors.
enum class Function { kExp, kExp2, kSoftplus, kSigmoid };
template <class T>
void apply(Function function, const T* x, T* result, int64_t count);

// Name of the instruction set the kernels run on, such as "AVX2" or "AVX3" (Highway's name of AVX-512).
const char* instruction_set();

}  // namespace hippodrome::s6
