// The CUDA kernels of the Cauchy sums, run on the CPU (core/cuda/emulator.h) through their binding.
#include <ATen/ops/rand.h>
#include <ATen/ops/stack.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <tuple>

#include "architectures/ssm/cauchy/cauchy.h"
#include "architectures/ssm/cauchy/cuda_binding.h"
#include "architectures/ssm/cauchy/cuda_kernels.h"
#include "core/cuda/emulator.h"
#include "tests/architectures/ssm/emulated_checks.h"

namespace hippodrome {
namespace cauchy_cuda_test {
namespace {

using namespace scan_checks;
using cauchy_op::CudaKernels;

template <cuda::Order kOrder>
CudaKernels emulated() {
  return {[](const CauchyForwardCuda& p, void*) { return run_cauchy_forward(p, cuda::EmulatedLauncher{kOrder}); },
          [](const CauchyBackwardCuda& p, void*) { return run_cauchy_backward(p, cuda::EmulatedLauncher{kOrder}); }};
}

Evaluation run(const Tensors& in, int64_t length, const Tensors& cotangents,
               const CudaKernels& kernels = emulated<cuda::Order::kForwards>()) {
  const auto [v, lambda] = cauchy_op::cuda_backward(cotangents[0], in[0], in[1], length, false, kernels);
  return {{cauchy_op::cuda_forward(in[0], in[1], length, false, kernels)}, {v, lambda}};
}

Op plain(int64_t length) {
  return [=](const Tensors& in) -> Tensors { return {cauchy(in[0], in[1], length, true)}; };
}

// Poles as S4 has them: half a step times a decay near ½ and frequencies up to a few hundred.
Tensors inputs(int64_t channels, int64_t rows, int64_t states, double step = 0.01) {
  seed();
  const at::Tensor decay = at::rand({channels, states}, at::kDouble).add(0.2).mul(-0.5 * step);
  const at::Tensor frequency = at::rand({channels, states}, at::kDouble).mul(0.5 * step * 300.0);
  return {at::randn({channels, rows, states, 2}, at::kDouble), at::stack({decay, frequency}, -1)};
}

TEST(CauchyCuda, EqualsTheReference) {
  WorstErrors worst;
  for (const auto& [length, channels, rows, states] :
       std::vector<std::tuple<int64_t, int64_t, int64_t, int64_t>>{{1, 1, 1, 1},
                                                                   {2, 3, 2, 5},
                                                                   {127, 2, 3, 32},
                                                                   {254, 1, 4, 33},
                                                                   {257, 2, 9, 7},
                                                                   {300, 1, 1, 65},
                                                                   {4094, 1, 4, 3},
                                                                   {4097, 1, 5, 2}}) {
    const Tensors in = inputs(channels, rows, states);
    const auto label = ::testing::PrintToString(std::make_tuple(length, channels, rows, states));
    expect_emulated_equals(
        plain(length), [&](const Tensors& t, const Tensors& cotangents) { return run(t, length, cotangents); }, in, 8,
        8, label, worst);
  }
  worst.record();
}

TEST(CauchyCuda, NodesAreExactAtBothEnds) {
  for (const int64_t length : {int64_t{1}, int64_t{2}, int64_t{64}, int64_t{16384}, int64_t{1} << 33}) {
    EXPECT_EQ(cauchy_cuda::sine_of_node(0, length), 0.0);
    EXPECT_EQ(cauchy_cuda::cosine_of_node(0, length), 1.0);
    if (length % 2 == 0) {
      EXPECT_EQ(cauchy_cuda::sine_of_node(length / 2, length), 1.0);
      EXPECT_EQ(cauchy_cuda::cosine_of_node(length / 2, length), 0.0);
    }
    for (const int64_t k : {length / 7, length / 3}) {
      const double angle = std::numbers::pi * static_cast<double>(k) / static_cast<double>(length);
      EXPECT_NEAR(cauchy_cuda::sine_of_node(k, length), std::sin(angle), 3e-16);
      EXPECT_NEAR(cauchy_cuda::cosine_of_node(k, length), std::cos(angle), 3e-16);
    }
  }
}

TEST(CauchyCuda, WeaklyDampedPolesStayInRange) {
  Tensors in = cast(inputs(1, 1, 4), at::kFloat);
  in[1].select(-1, 0).fill_(-1e-12);
  in[1].select(-1, 1).fill_(0.0);  // meets the node of k = 0
  const at::Tensor sums = cauchy_op::cuda_forward(in[0], in[1], 8, false, emulated<cuda::Order::kForwards>());
  EXPECT_TRUE(sums.isfinite().all().item<bool>());
}

TEST(CauchyCuda, SameBitsInAnyOrderOfThreadsAndBlocks) {
  const Tensors in = cast(inputs(2, 5, 40), at::kFloat);
  const Tensors cotangents = random_like(plain(700)(in));
  const Evaluation a = run(in, 700, cotangents), b = run(in, 700, cotangents, emulated<cuda::Order::kBackwards>());
  expect_same_bits(a.outputs, b.outputs, "outputs");
  expect_same_bits(a.gradients, b.gradients, "gradients");
}

TEST(CauchyCuda, LayoutsAndEmptyInputs) {
  const Tensors in = inputs(3, 4, 6);
  const Tensors cotangents = random_like(plain(20)(in));
  const auto strided = [](const at::Tensor& t) { return t.transpose(0, -2).contiguous().transpose(0, -2); };
  expect_same_bits(run({strided(in[0]), strided(in[1])}, 20, {strided(cotangents[0])}).gradients,
                   run(in, 20, cotangents).gradients, "strided");
  const Evaluation none = run({in[0].slice(0, 0, 0), in[1].slice(0, 0, 0)}, 20, {cotangents[0].slice(0, 0, 0)});
  EXPECT_EQ(none.outputs[0].sizes(), at::IntArrayRef({0, 4, 11, 2}));
  const Evaluation poleless = run({in[0].slice(2, 0, 0), in[1].slice(1, 0, 0)}, 20, cotangents);
  EXPECT_EQ(rms(poleless.outputs[0]), 0.0);
  const Evaluation rowless = run({in[0].slice(1, 0, 0), in[1]}, 20, {cotangents[0].slice(1, 0, 0)});
  EXPECT_EQ(rms(rowless.gradients[1]), 0.0);
  const auto kernels = emulated<cuda::Order::kForwards>();
  EXPECT_THROW(cauchy_op::cuda_forward(in[0], in[1], 0, false, kernels), c10::Error);
  EXPECT_THROW(cauchy_op::cuda_forward(in[0], in[1].to(at::kFloat), 8, false, kernels), c10::Error);
  EXPECT_THROW(cauchy_op::cuda_forward(in[0], in[1], 8, true, kernels), c10::Error);
}

TEST(CauchyCuda, OffsetsPassTwoToTheThirtyOne) {
  CauchyBackwardCuda p;
  p.channels = 5000, p.rows = 9, p.states = 512, p.length = int64_t{1} << 24;
  const int64_t blocks = cauchy_cuda::Backward<float>::blocks(p);
  EXPECT_EQ(blocks, int64_t{5000} * 3 * 16 * 4097);
  const cauchy_cuda::Backward<float>::Place last(p, int64_t{5000} * 3 * 16 * 4097 - 1);
  EXPECT_EQ(std::make_tuple(last.split, last.state, last.row_block, last.channel),
            std::make_tuple(int64_t{4096}, int64_t{480}, int64_t{2}, int64_t{4999}));
}

}  // namespace
}  // namespace cauchy_cuda_test
}  // namespace hippodrome
