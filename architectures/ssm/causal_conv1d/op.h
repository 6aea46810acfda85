// Causal depthwise convolution over time with a carried window, as used before selective scans (Mamba, arXiv
// 2312.00752, section 3.4) and in H3's shift. Per channel c, with K taps:
//
//   pre_t = bias_c + sum_{j=0}^{K-1} weight_{c,j} x_{t-K+1+j}
//   y_t   = pre_t  or  SiLU(pre_t) = pre_t / (1 + e^{-pre_t})
//
// The K-1 inputs before the first token come from the state [B, D, K-1] (oldest first; zeros for a fresh one); the last
// K-1 inputs leave in the final state. "Before" counts tokens that are there: padding (position -1) is skipped, neither
// shifted into the window nor into the state, and its y is 0. Position 0 starts a sequence: the window before it is
// zeros.
//
// Gradients, with g_t = gy_t act'(pre_t):  gx_i = sum_m weight_{c,K-1-m} g_{i+m} (+ the final state's gradient where
// x_i is in it), gweight_{c,j} = sum_t g_t x_{t-K+1+j}, gbias = sum_t g_t; the initial state's gradient is gx of the
// inputs it holds. SiLU'(z) = s (1 + z (1 - s)) with s = sigmoid(z).
//
// Layout: channels are adjacent in memory, i.e. x [B, D, L] is the transpose of [B, L, D] memory, possibly columns of a
// wider matrix. Per (t, channel) that is not padding: 2 K multiplications and additions, and for SiLU three sums or
// quotients and one exponential more.
#pragma once

#include <cstdint>

namespace hippodrome {

inline constexpr int64_t kCausalConv1dMaxTaps = 16;
// A work item is this many steps of this many channels. Steps: so that one short row still feeds many threads;
// channels: four AVX-512 vectors of floats, so that a page of memory is used for several cache lines while it is in the
// translation buffer. Sums over time are cut here too, so they do not depend on the number of threads.
inline constexpr int64_t kCausalConv1dTile = 256;
inline constexpr int64_t kCausalConv1dBlock = 64;

// At least 1: an empty sequence still hands its state on.
inline constexpr int64_t causal_conv1d_tiles(int64_t time) {
  return time == 0 ? 1 : (time + kCausalConv1dTile - 1) / kCausalConv1dTile;
}
inline constexpr int64_t causal_conv1d_blocks(int64_t channels) {
  return (channels + kCausalConv1dBlock - 1) / kCausalConv1dBlock;
}

// Element (b, t, c) of a sequence is data[b * batch_stride + t * row_stride + c].
template <class Scalar>
struct CausalConv1dSequence {
  const Scalar* data;
  int64_t batch_stride, row_stride;
};

template <class Scalar>
struct CausalConv1dForward {
  int64_t batch, channels, time, taps;
  bool silu;
  CausalConv1dSequence<Scalar> x;
  const Scalar* weight;         // [D, K]
  const Scalar* bias;           // [D] or null
  const Scalar* initial_state;  // [B, D, K-1] or null: zeros
  const int64_t* positions;     // [B, L] or null
  Scalar* y;                    // [B, L, D]
  Scalar* final_state;          // [B, D, K-1]
};

template <class Scalar>
struct CausalConv1dBackward {
  int64_t batch, channels, time, taps;
  bool silu;
  CausalConv1dSequence<Scalar> x;
  const Scalar* weight;
  const Scalar* bias;
  const Scalar* initial_state;
  const int64_t* positions;
  CausalConv1dSequence<Scalar> grad_y;
  const Scalar* grad_final_state;  // [B, D, K-1] or null: 0
  Scalar* grad_x;                  // [B, L, D]
  // [B * tiles, K + 1, D]: gradients of the taps, then of the bias; to be summed over rows.
  Scalar* grad_parameter_rows;
  Scalar* grad_initial_state;  // [B, D, K-1]
};

// Work items [begin, end) of batch * causal_conv1d_tiles(time) * causal_conv1d_blocks(channels), channel blocks
// fastest.
void causal_conv1d_forward_cpu(const CausalConv1dForward<float>& p, int64_t begin, int64_t end);
void causal_conv1d_forward_cpu(const CausalConv1dForward<double>& p, int64_t begin, int64_t end);
void causal_conv1d_backward_cpu(const CausalConv1dBackward<float>& p, int64_t begin, int64_t end);
void causal_conv1d_backward_cpu(const CausalConv1dBackward<double>& p, int64_t begin, int64_t end);

}  // namespace hippodrome
