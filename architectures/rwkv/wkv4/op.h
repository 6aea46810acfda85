// WKV of RWKV-4 (arXiv 2305.13048, equations 16 and 23-28): per channel, an exponentially decaying weighted mean of
// values.
//
//   true state   A_t = e^w A_{t-1} + e^{k_t} v_t          B_t = e^w B_{t-1} + e^{k_t}
//   output       y_t = (A_{t-1} + e^{u + k_t} v_t) / (B_{t-1} + e^{u + k_t})
//
// with w = -exp(time_decay) < 0 and u = time_first. e^{k} overflows, so the state is carried as (n, d, m) = (numerator,
// denominator, maximum) with A = n e^m and B = d e^m, and every exponent is taken relative to a maximum:
//
//   q  = max(m, u + k)      e1 = e^{m - q}         e2 = e^{u + k - q}      y  = (e1 n + e2 v) / (e1 d + e2)
//   m' = max(m + w, k)      f1 = e^{m + w - m'}    f2 = e^{k - m'}         n' = f1 n + f2 v,  d' = f1 d + f2
//
// A fresh state is (0, 0, -1e38). All arithmetic is in the scalar type of the state.
//
// Gradients. (n, d, m) has one degree of freedom too many: only A and B matter for what follows. The op is nevertheless
// differentiated as the plain function (w, u, k, v, n_0, d_0, m_0) -> (y, n_T, d_T, m_T) that it is, all three state
// entries in and out, so finite differences of any output to any input agree (except at ties of a maximum, where the
// carried one counts). Let (gn, gd) be the gradients of a step's outgoing n and d at a fixed scale m. With the gradient
// g of y and r = 1 / (e1 d + e2):
//
//   gn_{t-1} = g r e1 + f1 gn            gd_{t-1} = -g r e1 y + f1 gd
//   gv = g r e2 + f2 gn                  gk = g r e2 (v - y) + f2 (gn v + gd)
//   gu += g r e2 (v - y)                 gw += f1 (gn n_{t-1} + gd d_{t-1})
//
// Every factor is at most 1 and all come from the forward pass, so nothing overflows. Shifting the scale m_T at a fixed
// true state changes n_T = A e^{-m_T}; the rest of the gradient of m_T is therefore  Gm = gm_T - gn_T n_T - gd_T d_T.
// It runs back along the chain of maxima: where m + w won it goes to m_{t-1} and is added to gw, where k won it is
// added to gk and ends there. At the start, gm_0 = Gm + gn_0 n_0 + gd_0 d_0, since A_0 and B_0 depend on m_0. A
// consumer that sees only the true state, such as the next call of this op, hands back gm_T = gn_T n_T + gd_T d_T, so
// Gm = 0 and a cut sequence has the gradients of the whole one. Whoever drops the gradient of `maximum` breaks that:
// carry all three.
#pragma once

#include <cstdint>

namespace hippodrome {

// Steps between two checkpoints of the state: saved memory is 3 / 64 of a number per (t, channel), and what the
// backward pass recomputes for one vector of channels (7 numbers per step, 28 KiB with AVX-512) stays in the
// first-level cache or just outside.
inline constexpr int64_t kWkv4Chunk = 64;
// Channels of one work item: two AVX-512 vectors of floats, so that even one row of 256 channels feeds eight threads.
inline constexpr int64_t kWkv4Block = 32;
inline constexpr double kWkv4FreshMaximum = -1e38;

inline constexpr int64_t wkv4_chunks(int64_t time) { return (time + kWkv4Chunk - 1) / kWkv4Chunk; }
inline constexpr int64_t wkv4_blocks(int64_t channels) { return (channels + kWkv4Block - 1) / kWkv4Block; }

// All arrays are contiguous. `positions`: -1 padding (y = 0, state and gradients pass by), 0 the state is fresh before
// this token, anything else continues; null: one run per row.
template <class Scalar>
struct Wkv4Forward {
  int64_t batch, time, channels;
  const Scalar* w;           // [C], negative
  const Scalar* u;           // [C]
  const Scalar* k;           // [B, T, C]
  const Scalar* v;           // [B, T, C]
  const Scalar* state;       // [B, 3, C] or null: fresh
  const int64_t* positions;  // [B, T] or null
  Scalar* y;                 // [B, T, C]
  Scalar* last_state;        // [B, 3, C]
  Scalar* checkpoints;       // [B, chunks, 3, C], the state before each chunk; or null: not kept
};

template <class Scalar>
struct Wkv4Backward {
  int64_t batch, time, channels;
  const Scalar* w;
  const Scalar* u;
  const Scalar* k;
  const Scalar* v;
  const Scalar* state;
  const int64_t* positions;
  const Scalar* checkpoints;      // of the forward pass; the reference does without
  const Scalar* grad_y;           // [B, T, C]
  const Scalar* grad_last_state;  // [B, 3, C] or null: 0
  Scalar* grad_w_rows;            // [B, C], to be summed over B
  Scalar* grad_u_rows;            // [B, C], to be summed over B
  Scalar* grad_k;                 // [B, T, C]
  Scalar* grad_v;                 // [B, T, C]
  Scalar* grad_state;             // [B, 3, C]
};

// Work items [begin, end) of batch * wkv4_blocks(channels): independent, and an item's results do not depend on the
// others.
void wkv4_forward_cpu(const Wkv4Forward<float>& p, int64_t begin, int64_t end);
void wkv4_forward_cpu(const Wkv4Forward<double>& p, int64_t begin, int64_t end);
void wkv4_backward_cpu(const Wkv4Backward<float>& p, int64_t begin, int64_t end);
void wkv4_backward_cpu(const Wkv4Backward<double>& p, int64_t begin, int64_t end);

}  // namespace hippodrome
