#include "benchmarks/gpu/rivals.h"

#include <ATen/TensorIndexing.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/complex.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/fft_irfft.h>
#include <ATen/ops/fft_rfft.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/view_as_complex.h>
#include <ATen/ops/view_as_real.h>
#include <c10/util/Exception.h>

#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

namespace hippodrome::rivals {

using at::Tensor;

namespace {

// e^x, and 0 where `keep` [n, n] does not hold; masked before the exponential, which would overflow there.
Tensor masked_exp(const Tensor& x, const Tensor& keep) {
  return x.masked_fill(keep.logical_not(), -std::numeric_limits<double>::infinity()).exp();
}

// 1 on and below this diagonal of a square.
Tensor lower_triangle(int64_t size, int64_t diagonal, at::Device device) {
  return at::ones({size, size}, at::TensorOptions(at::kBool).device(device)).tril(diagonal);
}

}  // namespace

Tensor selective_scan_by_doubling(const SelectiveScanArguments& in) {
  TORCH_CHECK(in.B.dim() == 3 && !in.complex && !in.zero_order_hold && !in.initial_state && !in.positions,
              "the scan by doubling takes the plain case only");
  const int64_t length = in.u.size(2);
  const Tensor u = in.u.transpose(1, 2).to(at::kFloat);  // [B, L, D]
  Tensor delta = in.delta.transpose(1, 2).to(at::kFloat);
  if (in.delta_bias) delta = delta + *in.delta_bias;
  if (in.delta_softplus) delta = at::softplus(delta);
  Tensor decay = (delta.unsqueeze(-1) * in.A).exp();  // [B, L, D, N]
  Tensor h = (delta * u).unsqueeze(-1) * in.B.transpose(1, 2).to(at::kFloat).unsqueeze(2);
  for (int64_t step = 1; step < length; step *= 2) {
    const Tensor tail = decay.narrow(1, step, length - step);
    h = at::cat({h.narrow(1, 0, step), h.narrow(1, step, length - step) + tail * h.narrow(1, 0, length - step)}, 1);
    decay = at::cat({decay.narrow(1, 0, step), tail * decay.narrow(1, 0, length - step)}, 1);
  }
  Tensor y = h.matmul(in.C.transpose(1, 2).to(at::kFloat).unsqueeze(-1)).squeeze(-1);
  if (in.D) y = y + *in.D * u;
  if (in.z) y = y * at::silu(in.z->transpose(1, 2).to(at::kFloat));
  return y.to(in.u.scalar_type()).transpose(1, 2);
}

Tensor ssd_in_chunks(const SsdArguments& in, int64_t chunk) {
  const int64_t batch = in.x.size(0), length = in.x.size(1), heads = in.x.size(2), size = in.x.size(3);
  TORCH_CHECK(in.B.size(2) == 1 && length % chunk == 0 && !in.D && !in.z && !in.dt_bias && !in.dt_softplus &&
                  !in.initial_state && !in.positions,
              "SSD in chunks takes the plain case only");
  const int64_t chunks = length / chunk, states = in.B.size(3);
  const auto dtype = in.x.scalar_type();
  const Tensor dt = in.dt.to(at::kFloat);
  const Tensor x = (in.x * dt.unsqueeze(-1))
                       .to(dtype)
                       .view({batch, chunks, chunk, heads, size})
                       .permute({0, 3, 1, 2, 4});  // [B, H, c, Q, P]
  const Tensor B = in.B.reshape({batch, 1, chunks, chunk, states}), C = in.C.reshape({batch, 1, chunks, chunk, states});
  // Decays from a chunk's start, [B, H, c, Q].
  const Tensor sums = (dt * in.A).view({batch, chunks, chunk, heads}).permute({0, 3, 1, 2}).cumsum(-1);
  const Tensor total = sums.select(-1, chunk - 1);

  const Tensor within =
      masked_exp(sums.unsqueeze(-1) - sums.unsqueeze(-2), lower_triangle(chunk, 0, in.x.device()));  // [B, H, c, Q, Q]
  const Tensor y = (C.matmul(B.transpose(-1, -2)) * within).to(dtype).matmul(x);

  const Tensor to_end = (total.unsqueeze(-1) - sums).exp().unsqueeze(-1);
  const Tensor added = (x * to_end).to(dtype).transpose(-1, -2).matmul(B);  // [B, H, c, P, N]
  const Tensor before = at::constant_pad_nd(total, {1, 0}).cumsum(-1);      // up to each chunk's start, [B, H, c + 1]
  const Tensor between =
      masked_exp(before.narrow(-1, 0, chunks).unsqueeze(-1) - before.narrow(-1, 1, chunks).unsqueeze(-2),
                 lower_triangle(chunks, -1, in.x.device()));
  const Tensor start = between.matmul(added.to(at::kFloat).flatten(-2)).view({batch, heads, chunks, size, states});
  const Tensor carried = C.matmul(start.to(dtype).transpose(-1, -2)) * sums.exp().unsqueeze(-1);
  return (y + carried).to(dtype).permute({0, 2, 3, 1, 4}).reshape({batch, length, heads, size});
}

Tensor fft_convolution(const Tensor& x, const Tensor& taps) {
  const int64_t length = x.size(1);
  TORCH_CHECK(taps.size(0) <= length, "more taps than inputs");
  const Tensor spectrum =
      at::fft_rfft(x.to(at::kFloat), 2 * length, 1) * at::fft_rfft(taps.to(at::kFloat), 2 * length, 0);
  return at::fft_irfft(spectrum, 2 * length, 1).narrow(1, 0, length).to(x.scalar_type());
}

Tensor conv1d_silu(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const int64_t width = weight.size(1);
  return at::silu(at::conv1d(x, weight.unsqueeze(1), bias, /*stride=*/1, width - 1, /*dilation=*/1, x.size(1))
                      .narrow(2, 0, x.size(2)));
}

Tensor gated_rms_norm(const Tensor& x, const Tensor& z, const Tensor& weight) {
  return at::rms_norm(x * at::silu(z), {weight.size(0)}, weight, 1e-5);
}

Tensor cauchy_by_division(const Tensor& v, const Tensor& lambda, int64_t length) {
  const Tensor angle = at::arange(length / 2 + 1, lambda.options().dtype(at::kDouble)) *
                       (std::numbers::pi / static_cast<double>(length));
  const Tensor sine = angle.sin().to(lambda.scalar_type()), cosine = angle.cos().to(lambda.scalar_type());
  const Tensor re = lambda.select(2, 0).unsqueeze(-1), im = lambda.select(2, 1).unsqueeze(-1);  // [H, N, 1]
  std::vector<Tensor> rows;
  for (const Tensor& row : v.unbind(1)) {
    const Tensor weight = at::view_as_complex(row.contiguous()).unsqueeze(-1);  // [H, N, 1]
    const Tensor own = at::complex(-cosine * re, sine - cosine * im);           // [H, N, K]
    const Tensor conjugate = at::complex(-cosine * re, sine + cosine * im);
    rows.push_back(at::view_as_real((weight / own + weight.conj() / conjugate).sum(1)));
  }
  return at::stack(rows, 1);
}

Tensor eager_additive_attention(const Tensor& queries, const Tensor& keys, const Tensor& v, const Tensor& values) {
  return at::tanh(queries.unsqueeze(2) + keys.unsqueeze(1)).matmul(v).softmax(-1).matmul(values);
}

}  // namespace hippodrome::rivals
