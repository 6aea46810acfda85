#include "architectures/ssm/s4d/convolution.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/fft_irfft.h>
#include <ATen/ops/fft_rfft.h>
#include <torch/csrc/autograd/custom_function.h>

namespace hippodrome {
namespace vandermonde_detail {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

int64_t stride_of(int64_t length) {
  int64_t stride = 1;
  while (stride * stride < length) stride *= 2;
  return stride;
}

struct Complex {
  Tensor real, imag;
};

// e^{p θ} for each exponent p: [H, P, M] from θ [H, M] and exponents [P].
Complex powers(const Complex& theta, const Tensor& exponents) {
  const Tensor p = exponents.view({1, -1, 1});
  const Tensor radius = theta.real.unsqueeze(1).mul(p).exp(), phase = theta.imag.unsqueeze(1).mul(p);
  return {radius.mul(phase.cos()), radius.mul(phase.sin())};
}

struct Tables {
  Tensor coarse_exponents, fine_exponents;  // [J], [S]
  Complex coarse, fine;                     // e^{jSθ} [H, J, M], e^{iθ} [H, S, M]
  Complex weighted;                         // w e^{jSθ}
};

Tables tables_of(const Complex& w, const Complex& theta, int64_t length) {
  const int64_t stride = stride_of(length), count = (length + stride - 1) / stride;
  Tables t;
  t.coarse_exponents = at::arange(count, theta.real.options()).mul(stride);
  t.fine_exponents = at::arange(stride, theta.real.options());
  t.coarse = powers(theta, t.coarse_exponents);
  t.fine = powers(theta, t.fine_exponents);
  const Tensor w_real = w.real.unsqueeze(1), w_imag = w.imag.unsqueeze(1);
  t.weighted = {t.coarse.real.mul(w_real).sub(t.coarse.imag.mul(w_imag)),
                t.coarse.imag.mul(w_real).add(t.coarse.real.mul(w_imag))};
  return t;
}

struct Vandermonde : torch::autograd::Function<Vandermonde> {
  static Tensor forward(AutogradContext* context, const Tensor& w_real, const Tensor& w_imag, const Tensor& theta_real,
                        const Tensor& theta_imag, int64_t length, int64_t dtype) {
    context->save_for_backward({w_real, w_imag, theta_real, theta_imag});
    context->saved_data["length"] = length;
    const Tables t = tables_of({w_real, w_imag}, {theta_real, theta_imag}, length);
    const auto type = static_cast<at::ScalarType>(dtype);
    const Tensor left = at::cat({t.weighted.real, t.weighted.imag.neg()}, -1).mul(2.0).to(type);
    const Tensor right = at::cat({t.fine.real, t.fine.imag}, -1).to(type);
    return at::bmm(left, right.transpose(1, 2)).flatten(1).narrow(1, 0, length).contiguous();
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "the convolution kernel can be differentiated once only");
    const variable_list saved = context->get_saved_variables();
    const int64_t length = context->saved_data["length"].toInt();
    const Tables t = tables_of({saved[0], saved[1]}, {saved[2], saved[3]}, length);
    const int64_t count = t.coarse.real.size(1), stride = t.fine.real.size(1);
    const auto type = gradients[0].scalar_type();
    // K = 2 Re Σ P Q, so that as pairs of reals dP = 2 G conj(Q) and dQ = 2 Gᵀ conj(P).
    const Tensor g = at::constant_pad_nd(gradients[0], {0, count * stride - length}).view({-1, count, stride}).mul(2.0);
    const auto product = [&](const Tensor& left, const Tensor& right) {
      return at::bmm(left, right.to(type)).to(at::kDouble);
    };
    const Complex dP{product(g, t.fine.real), product(g, t.fine.imag).neg()};
    const Tensor transposed = g.transpose(1, 2);
    const Complex dQ{product(transposed, t.weighted.real), product(transposed, t.weighted.imag).neg()};
    const Tensor p = t.coarse_exponents.view({1, -1, 1}), q = t.fine_exponents.view({1, -1, 1});
    const Tensor dw_real = dP.real.mul(t.coarse.real).add(dP.imag.mul(t.coarse.imag)).sum(1);
    const Tensor dw_imag = dP.imag.mul(t.coarse.real).sub(dP.real.mul(t.coarse.imag)).sum(1);
    const Tensor dtheta_real = dP.real.mul(t.weighted.real)
                                   .add(dP.imag.mul(t.weighted.imag))
                                   .mul(p)
                                   .sum(1)
                                   .add(dQ.real.mul(t.fine.real).add(dQ.imag.mul(t.fine.imag)).mul(q).sum(1));
    const Tensor dtheta_imag = dP.imag.mul(t.weighted.real)
                                   .sub(dP.real.mul(t.weighted.imag))
                                   .mul(p)
                                   .sum(1)
                                   .add(dQ.imag.mul(t.fine.real).sub(dQ.real.mul(t.fine.imag)).mul(q).sum(1));
    return {dw_real, dw_imag, dtheta_real, dtheta_imag, Tensor(), Tensor()};
  }
};

}  // namespace
}  // namespace vandermonde_detail

Tensor vandermonde_kernel(const Tensor& w_real, const Tensor& w_imag, const Tensor& theta_real,
                          const Tensor& theta_imag, int64_t length, at::ScalarType dtype) {
  return vandermonde_detail::Vandermonde::apply(w_real, w_imag, theta_real, theta_imag, length,
                                                static_cast<int64_t>(dtype));
}

Tensor fft_convolution(const Tensor& u, const Tensor& kernel) {
  const int64_t length = u.size(1), padded = 2 * length;
  // Time innermost: strided transforms and products are slower than the two transpositions.
  Tensor spectrum = at::fft_rfft(u.transpose(1, 2).contiguous(), padded);
  if (kernel.dim() == 3) spectrum = spectrum.unsqueeze(2);
  const Tensor y = at::fft_irfft(spectrum.mul(at::fft_rfft(kernel, padded)), padded).narrow(-1, 0, length);
  return y.movedim(-1, 1).contiguous();
}

}  // namespace hippodrome
