// What the benchmarks on a GPU measure, at a small size on the CPU: every kernel and its rivals compute the same, and
// the bounds are those of the busiest unit.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/ones_like.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "benchmarks/gpu/device_peaks.h"
#include "benchmarks/gpu/problem.h"

namespace hippodrome::gpu_benchmark {
namespace {

using at::Tensor;

double relative_error(const Tensor& got, const Tensor& want) {
  const Tensor e = want.to(at::kDouble), difference = got.to(at::kDouble) - e;
  return (difference.square().sum() / (e.square().sum() + 1e-30)).sqrt().item<double>();
}

class MeasuredKernels : public testing::TestWithParam<std::string> {
 protected:
  static Kernel kernel() {
    for (const Kernel& kernel : kernels()) {
      if (kernel.name == GetParam()) return kernel;
    }
    return {};
  }
};

// In float32, where all agree; lengths that are no power of two and none of a chunk's multiples but one.
TEST_P(MeasuredKernels, RivalsComputeTheSame) {
  for (const Shape& shape : {Shape{2, 150, 8}, Shape{1, 512, 4}}) {
    const Problem problem = kernel().make(shape, at::TensorOptions(at::kFloat).device(at::kCPU));
    for (const Tensor& input : problem.inputs) input.set_requires_grad(true);
    const Tensor y = problem.forward(), cotangent = at::ones_like(y).detach();
    const auto gradients = torch::autograd::grad({y}, problem.inputs, {cotangent}, /*retain_graph=*/true);
    for (const Rival& rival : problem.rivals) {
      for (const Tensor& input : rival.inputs) input.set_requires_grad(true);
      const Tensor theirs = rival.forward();
      ASSERT_EQ(theirs.sizes(), y.sizes()) << rival.name;
      EXPECT_EQ(theirs.scalar_type(), y.scalar_type()) << rival.name;
      EXPECT_LT(relative_error(theirs, y), 2e-5) << rival.name << ", length " << shape.length;
      if (!rival.differentiable) continue;
      const auto others =
          torch::autograd::grad({theirs}, rival.inputs.empty() ? problem.inputs : rival.inputs, {cotangent});
      for (size_t i = 0; i < gradients.size(); ++i) {
        EXPECT_LT(relative_error(others[i], gradients[i]), 2e-4) << rival.name << ", gradient " << i;
      }
    }
  }
}

// As it is measured: in its own dtype, forward and backward.
TEST_P(MeasuredKernels, RunsInItsDtype) {
  const Kernel measured = kernel();
  ASSERT_FALSE(measured.shapes.empty());
  const Problem problem = measured.make({1, 256, 8}, at::TensorOptions(measured.dtype).device(at::kCPU));
  for (const Tensor& input : problem.inputs) input.set_requires_grad(true);
  const Tensor y = problem.forward();
  torch::autograd::grad({y}, problem.inputs, {at::ones_like(y).detach()});
  for (const Rival& rival : problem.rivals) {
    const Tensor theirs = rival.forward();
    EXPECT_EQ(theirs.scalar_type(), y.scalar_type()) << rival.name;
    EXPECT_LT(relative_error(theirs, y), 0.05) << rival.name;
  }
}

std::vector<std::string> names() {
  std::vector<std::string> names;
  for (const Kernel& kernel : kernels()) names.push_back(kernel.name);
  return names;
}
INSTANTIATE_TEST_SUITE_P(Every, MeasuredKernels, testing::ValuesIn(names()),
                         [](const auto& info) { return info.param; });

TEST(DevicePeaks, KnowsNames) {
  EXPECT_DOUBLE_EQ(device_peaks("NVIDIA H200")->bytes, 4.8e12);
  EXPECT_DOUBLE_EQ(device_peaks("NVIDIA H100 80GB HBM3")->bytes, 3.35e12);
  EXPECT_DOUBLE_EQ(device_peaks("NVIDIA A100-SXM4-80GB")->bytes, 2.04e12);
  EXPECT_FALSE(device_peaks("NVIDIA H100 PCIe").has_value());
}

TEST(DevicePeaks, TheBusiestUnitBounds) {
  const DevicePeaks peaks{.bytes = 4e12, .flops = 6e13, .products = 1e15, .specials = 4e12};
  const Bound traffic = least_time(8e12, {.flops = 6e13}, peaks);
  EXPECT_DOUBLE_EQ(traffic.seconds, 2.0);
  EXPECT_STREQ(traffic.by, "bytes");
  const Bound exponentials = least_time(8e12, {.specials = 12e12}, peaks);
  EXPECT_DOUBLE_EQ(exponentials.seconds, 3.0);
  EXPECT_STREQ(exponentials.by, "specials");
  EXPECT_DOUBLE_EQ(least_time(4e12, {.flops = 1e20}, {.bytes = 4e12}).seconds, 1.0);  // units without a peak
}

}  // namespace
}  // namespace hippodrome::gpu_benchmark
