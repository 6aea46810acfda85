// What one would write with LibTorch's operators alone, in the place of our kernels: the rivals of the GPU's
// benchmarks. They take any device, so that tests compare them with our reference loops on a CPU, and are
// differentiable.
#pragma once

#include <ATen/core/Tensor.h>

#include "architectures/ssm/selective_scan/selective_scan.h"
#include "architectures/ssm/ssd/ssd.h"

namespace hippodrome::rivals {

// The selective scan as a parallel prefix sum by doubling (Hillis and Steele 1986): log2 L passes over pairs
// [B, L, D, N] in float32, which it keeps. No groups, states, positions or complex numbers. Returns y [B, D, L].
at::Tensor selective_scan_by_doubling(const SelectiveScanArguments& arguments);

// SSD in chunks of matrix products, as listing 1 of arXiv 2405.21060 has it: products in the dtype of x, decays in
// float32. One group; `chunk` divides L; no skip, gate, bias or states. Returns y [B, L, H, P].
at::Tensor ssd_in_chunks(const SsdArguments& arguments, int64_t chunk = 256);

// A depthwise causal convolution of x [B, L, D] with taps [K, D], the newest input's first, by Fourier transforms of
// length 2 L in float32 (LibTorch's cuFFT has no bfloat16). K <= L. Returns [B, L, D] in x's dtype.
at::Tensor fft_convolution(const at::Tensor& x, const at::Tensor& taps);

// silu of the depthwise causal convolution of x [B, D, L] with weight [D, K] and bias [D], by LibTorch's conv1d.
at::Tensor conv1d_silu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

// The RMSNorm (epsilon 1e-5) of x silu(z), by LibTorch's rms_norm. x, z [B, L, W], weight [W].
at::Tensor gated_rms_norm(const at::Tensor& x, const at::Tensor& z, const at::Tensor& weight);

// The sums of hippodrome::cauchy as S4's plain form has them: rows one by one, two complex divisions for each row, pole
// and node. v [H, M, N, 2], lambda [H, N, 2]; returns [H, M, length / 2 + 1, 2].
at::Tensor cauchy_by_division(const at::Tensor& v, const at::Tensor& lambda, int64_t length);

// Additive attention that makes all scores: a tanh tensor [B, Lq, S, H]. queries [B, Lq, H], keys [B, S, H], v [H],
// values [B, S, M]; returns [B, Lq, M].
at::Tensor eager_additive_attention(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& v,
                                    const at::Tensor& values);

}  // namespace hippodrome::rivals
