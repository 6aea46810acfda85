// What the tests of gated_rms_norm on the CPU and on CUDA share.
#pragma once

#include <ATen/ops/rsqrt.h>
#include <ATen/ops/silu.h>

#include "architectures/ssm/gated_rms_norm/gated_rms_norm.h"
#include "tests/architectures/recurrent/scan_checks.h"

namespace hippodrome::gated_rms_norm_checks {

using namespace scan_checks;

// x, z [..., W] and weight [W]; gates far out on both sides, where a plain exponential overflows.
inline Tensors inputs(std::vector<int64_t> sizes, at::ScalarType dtype = at::kDouble) {
  const int64_t width = sizes.back();
  return cast({at::randn(sizes, at::kDouble), at::randn(sizes, at::kDouble).mul(30.0),
               at::randn({width}, at::kDouble).add(1.0)},
              dtype);
}

inline Op op(const GatedRmsNormOptions& options, bool reference = false) {
  return [=](const Tensors& in) -> Tensors {
    return {(reference ? gated_rms_norm_reference : gated_rms_norm)(in[0], in[1], in[2], options)};
  };
}

// The same by LibTorch's operators.
inline Op composite(const GatedRmsNormOptions& o) {
  return [=](const Tensors& in) -> Tensors {
    const at::Tensor gate = at::silu(in[1]), u = o.norm_before_gate ? in[0] : in[0].mul(gate);
    const at::Tensor groups = u.unflatten(-1, {o.groups, u.size(-1) / o.groups});
    const at::Tensor scale = at::rsqrt(groups.square().mean(-1, /*keepdim=*/true).add(o.epsilon));
    const at::Tensor y = groups.mul(scale).flatten(-2).mul(in[2]);
    return {o.norm_before_gate ? y.mul(gate) : y};
  };
}

}  // namespace hippodrome::gated_rms_norm_checks
