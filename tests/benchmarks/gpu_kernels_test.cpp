// The kernels that the benchmarks measure, on a GPU, at shapes small enough for compute-sanitizer: the CPU's results
// and gradients, the same bits in two runs, and rivals that agree there as well.
#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones_like.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <filesystem>

#include "benchmarks/gpu/problem.h"
#include "benchmarks/gpu/rival_library.h"
#include "core/tensor/accelerator.h"

namespace hippodrome::gpu_benchmark {
namespace {

using at::Tensor;

double error_of(const Tensor& got, const Tensor& want) {
  const Tensor e = want.to(at::kDouble);
  return ((got.to(at::kCPU).to(at::kDouble) - e).norm() / (e.norm() + 1e-30)).item<double>();
}

class GpuKernels : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists("/dev/nvidiactl")) GTEST_SKIP() << "this machine has no GPU";
    ASSERT_TRUE(find_accelerator(c10::Device(c10::DeviceType::CUDA, 0)).ok());
    load_rivals();
  }
};

// y, and the gradients of the inputs.
std::vector<Tensor> run(const Problem& problem) {
  for (const Tensor& input : problem.inputs) input.set_requires_grad(true);
  const Tensor y = problem.forward();
  std::vector<Tensor> results = torch::autograd::grad({y}, problem.inputs, {at::ones_like(y).detach()});
  results.insert(results.begin(), y.detach());
  return results;
}

TEST_P(GpuKernels, ComputeWhatTheCpuDoes) {
  Kernel kernel;
  for (const Kernel& each : kernels()) {
    if (each.name == GetParam()) kernel = each;
  }
  for (const auto& [dtype, bound] :
       {std::pair{at::kFloat, 2e-4}, {kernel.dtype, kernel.dtype == at::kFloat ? 2e-4 : 6e-2}}) {
    // One that is whole tiles, and one that is none.
    for (const Shape& shape : {Shape{2, 256, 8}, Shape{1, 150, 5}}) {
      const auto made = [&, type = dtype](at::DeviceType device) {
        at::manual_seed(1);
        return kernel.make(shape, at::TensorOptions(type).device(device));
      };
      const Problem here = made(at::kCPU), there = made(at::kCUDA);
      const std::vector<Tensor> want = run(here), got = run(there), again = run(there);
      ASSERT_EQ(got.size(), want.size());
      for (size_t i = 0; i < want.size(); ++i) {
        EXPECT_LT(error_of(got[i], want[i]), bound) << dtype << ", result " << i;
        EXPECT_TRUE(at::equal(got[i], again[i])) << "two runs differ in result " << i;
      }
      for (const Rival& rival : there.rivals) {
        EXPECT_LT(error_of(rival.forward().detach(), want[0]), bound) << rival.name;
        if (rival.backward) rival.backward();
      }
    }
  }
}

std::vector<std::string> every_name() {
  std::vector<std::string> names;
  for (const Kernel& kernel : kernels()) names.push_back(kernel.name);
  return names;
}
INSTANTIATE_TEST_SUITE_P(Every, GpuKernels, testing::ValuesIn(every_name()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace hippodrome::gpu_benchmark
