// The published algorithm of WKV-4 as the benchmarks have it, emulated (core/cuda/emulator.h): the same as our own.
#include <ATen/TensorOperators.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "architectures/rwkv/wkv4/wkv4.h"
#include "benchmarks/gpu/sequential_wkv_binding.h"
#include "benchmarks/gpu/sequential_wkv_kernels.h"
#include "core/cuda/emulator.h"

namespace hippodrome::sequential_wkv {
namespace {

using at::Tensor;

const Kernels kEmulated = {
    [](const Forward& p, void*) { return run_forward(p, cuda::EmulatedLauncher{cuda::Order::kForwards}); },
    [](const Backward& p, void*) { return run_backward(p, cuda::EmulatedLauncher{cuda::Order::kForwards}); }, nullptr};

double relative_error(const Tensor& got, const Tensor& want) {
  return ((got - want).to(at::kDouble).norm() / want.to(at::kDouble).norm()).item<double>();
}

TEST(SequentialWkv, ComputesWhatOursDoes) {
  for (const auto& [dtype, bound] : {std::pair{at::kDouble, 1e-12}, {at::kFloat, 2e-5}, {at::kBFloat16, 2e-2}}) {
    const auto scalar = at_least_float32(dtype);
    const Tensor w = at::randn({40}, scalar).exp().neg().requires_grad_(true);
    const Tensor u = at::randn({40}, scalar).requires_grad_(true);
    const Tensor k = at::randn({2, 70, 40}, scalar).to(dtype).requires_grad_(true);
    const Tensor v = at::randn({2, 70, 40}, scalar).to(dtype).requires_grad_(true);
    const Tensor gradient = at::randn({2, 70, 40}, scalar).to(dtype);
    const Tensor want = wkv4_reference(w, u, k, v).y;
    const auto wanted = torch::autograd::grad({want}, {w, u, k, v}, {gradient});
    const Tensor y = forward_with(kEmulated, w, u, k, v);
    EXPECT_LT(relative_error(y, want.detach()), bound);
    const auto [gw, gu, gk, gv] = backward_with(kEmulated, w, u, k, v, y, gradient);
    size_t i = 0;
    for (const Tensor& got : {gw, gu, gk, gv}) {
      EXPECT_LT(relative_error(got, wanted[i]), bound) << "gradient " << i;
      ++i;
    }
  }
}

}  // namespace
}  // namespace hippodrome::sequential_wkv
