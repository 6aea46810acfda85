#include "architectures/ssm/s4d/discretisation.h"

#include <ATen/ops/atan2.h>

#include <cmath>
#include <numbers>

#include "architectures/ssm/hippo/hippo.h"

namespace hippodrome {

InitialPoles initial_poles(const std::string& name, int64_t states) {
  const int64_t pairs = states / 2;
  const auto N = static_cast<double>(states);
  InitialPoles poles{std::vector<double>(static_cast<size_t>(pairs), 0.5),
                     std::vector<double>(static_cast<size_t>(pairs), 0.0)};
  for (int64_t i = 0; i < pairs; ++i) {
    const auto n = static_cast<double>(i);
    if (name == "lin") poles.frequency[i] = std::numbers::pi * n;
    if (name == "inv") poles.frequency[i] = N / std::numbers::pi * (N / (2.0 * n + 1.0) - 1.0);
    if (name == "real") poles.decay[i] = n + 1.0;
  }
  if (name == "legs") {
    const Tensor frequency = normal_plus_low_rank(hippo("legs", states)).frequency;
    poles.frequency.assign(frequency.const_data_ptr<double>(), frequency.const_data_ptr<double>() + pairs);
  }
  return poles;
}

DiscreteSystem discretise(const Tensor& log_dt, const Tensor& log_decay, const Tensor& frequency, bool bilinear) {
  const Tensor dt = log_dt.to(at::kDouble).exp().unsqueeze(-1);
  const Tensor real = log_decay.to(at::kDouble).exp().neg(), imag = frequency.to(at::kDouble);
  const Tensor z_real = dt.mul(real), z_imag = dt.mul(imag);
  DiscreteSystem s;
  if (bilinear) {
    const Tensor above_real = z_real.mul(0.5).add(1.0), below_real = z_real.mul(-0.5).add(1.0), half = z_imag.mul(0.5);
    const Tensor above = above_real.square().add(half.square()), below = below_real.square().add(half.square());
    // (1 + z/2) / (1 - z/2) with 1 - z/2 = below_real - i half.
    s.a_real = above_real.mul(below_real).sub(half.square()).div(below);
    s.a_imag = half.mul(above_real.add(below_real)).div(below);
    s.b_real = dt.mul(below_real).div(below);
    s.b_imag = dt.mul(half).div(below);
    s.log_a_real = above.log().sub(below.log()).mul(0.5);
    s.log_a_imag = at::atan2(half, above_real).add(at::atan2(half, below_real));
    return s;
  }
  const Tensor radius = z_real.exp();
  s.a_real = radius.mul(z_imag.cos());
  s.a_imag = radius.mul(z_imag.sin());
  const Tensor square = real.square().add(imag.square()), numerator = s.a_real.sub(1.0);
  s.b_real = numerator.mul(real).add(s.a_imag.mul(imag)).div(square);
  s.b_imag = s.a_imag.mul(real).sub(numerator.mul(imag)).div(square);
  s.log_a_real = z_real;
  s.log_a_imag = z_imag;
  return s;
}

}  // namespace hippodrome
