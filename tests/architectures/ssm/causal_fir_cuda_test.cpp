// The CUDA kernels of causal_fir, emulated on the CPU and called through their binding, against the CPU operator.
#include "architectures/ssm/causal_fir/cuda_binding.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <string>
#include <vector>

#include "architectures/ssm/causal_fir/causal_fir.h"
#include "architectures/ssm/causal_fir/cuda_kernels.h"
#include "core/cuda/emulator.h"
#include "tests/architectures/op_checks.h"

namespace hippodrome {
namespace causal_fir_cuda_test {
namespace {

using op_checks::random_normal;
using op_checks::relative_error;
using Tensors = std::vector<Tensor>;

template <cuda::Order kOrder>
constexpr causal_fir_op::CudaKernels kEmulated = {
    [](const CausalFirCudaForward& p, void*) {
      return causal_fir_cuda::run_forward(p, cuda::EmulatedLauncher{kOrder});
    },
    [](const CausalFirCudaBackward& p, void*) {
      return causal_fir_cuda::run_backward(p, cuda::EmulatedLauncher{kOrder});
    }};
constexpr auto kForwards = cuda::Order::kForwards, kBackwards = cuda::Order::kBackwards;

// Padding before, inside and behind; rows that continue and that start anywhere.
Tensor uneven_positions(int64_t batch, int64_t length) {
  Tensor positions = at::empty({batch, length}, at::kLong);
  for (int64_t b = 0; b < batch; ++b) {
    int64_t next = b % 2 == 0 ? 7 : 0;
    for (int64_t t = 0; t < length; ++t) {
      const bool outside = (b % 3 == 1 && t < 2 && length > 2) || (b % 3 == 2 && t + 3 >= length && length > 4);
      if (t == length / 2 + b) next = 0;
      positions[b][t] = outside || (t >= 14 && t < 14 + 20 * b) || t % 11 == 5 + b % 3 ? -1 : next++;
    }
  }
  return positions;
}

struct Problem {
  Tensor x, weight;
  OptionalTensor state, positions;
  Tensor grad_y, grad_state;
  Problem(int64_t batch, int64_t channels, int64_t length, int64_t taps, int variant)
      : x(random_normal({batch, length, channels}, 1)),
        weight(random_normal({taps, channels}, 2)),
        grad_y(random_normal({batch, length, channels}, 3)),
        grad_state(random_normal({batch, taps, channels}, 4)) {
    if (variant & 1) state = random_normal({batch, taps, channels}, 5);
    if (variant & 2) positions = uneven_positions(batch, length);
  }
};

// y, last state, gradients of x, weight and state.
Tensors run_emulated(const causal_fir_op::CudaKernels& kernels, const Problem& p, at::ScalarType type,
                     at::ScalarType wide) {
  const Tensor x = p.x.to(type), weight = p.weight.to(wide);
  const OptionalTensor state = p.state ? OptionalTensor(p.state->to(wide)) : std::nullopt;
  auto [y, last] = causal_fir_op::cuda_forward(kernels, x, weight, state, p.positions, false);
  auto [gx, gw, gs] = causal_fir_op::cuda_backward(kernels, p.grad_y.to(type), p.grad_state.to(wide), x, weight, state,
                                                   p.positions, false);
  return {y, last, gx, gw, gs};
}

Tensors expected_of(const Problem& p) {
  const auto leaf = [](const Tensor& t) { return t.clone().requires_grad_(true); };
  const Tensors in = {leaf(p.x), leaf(p.weight), leaf(p.state ? *p.state : at::zeros_like(p.grad_state))};
  const auto [y, last] = causal_fir(in[0], in[1], in[2], p.positions);
  Tensors result = {y.detach(), last.detach()};
  for (const Tensor& g : torch::autograd::grad({y, last}, in, {p.grad_y, p.grad_state})) result.push_back(g);
  return result;
}

class CausalFirCuda : public op_checks::EmptyIsNan {};

TEST_F(CausalFirCuda, EqualsTheCpuOperator) {
  double worst64 = 0, worst32 = 0;
  for (int64_t taps : {1, 7, 8, 9, 16, 17, 70}) {
    for (int64_t length : {0, 1, 15, 16, 17, 40, 90}) {
      for (int variant = 0; variant < 4; ++variant) {
        SCOPED_TRACE("K " + std::to_string(taps) + " L " + std::to_string(length) + " variant " +
                     std::to_string(variant));
        const Problem problem(variant & 2 ? 3 : 1, 5, length, taps, variant);
        const Tensors want = expected_of(problem);
        const Tensors got = run_emulated(kEmulated<kForwards>, problem, at::kDouble, at::kDouble);
        const Tensors single = run_emulated(kEmulated<kBackwards>, problem, at::kFloat, at::kFloat);
        for (size_t i = 0; i < want.size(); ++i) {
          worst64 = std::max(worst64, relative_error(got[i], want[i]));
          worst32 = std::max(worst32, relative_error(single[i], want[i]));
          ASSERT_LE(relative_error(got[i], want[i]), 1e-13) << i;
          ASSERT_LE(relative_error(single[i], want[i]), 4e-6) << i;
        }
      }
    }
  }
  RecordProperty("worst_float64", std::to_string(worst64 * 1e15) + "e-15");
  RecordProperty("worst_float32", std::to_string(worst32 * 1e6) + "e-6");
}

TEST_F(CausalFirCuda, SegmentsOfTheWeightsGradient) {
  for (int variant : {1, 3}) {
    const Problem problem(2, 3, 1100, 4, variant);
    ASSERT_GT(causal_fir_segments(1100, 4), 2);
    const Tensors want = expected_of(problem),
                  got = run_emulated(kEmulated<kForwards>, problem, at::kDouble, at::kDouble),
                  again = run_emulated(kEmulated<kBackwards>, problem, at::kDouble, at::kDouble);
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_LE(relative_error(got[i], want[i]), 1e-13) << i;
      EXPECT_TRUE(got[i].equal(again[i])) << i;
    }
  }
}

TEST_F(CausalFirCuda, StridedInputsAndBfloat16) {
  Problem problem(2, 6, 40, 9, 3);
  const Tensors want = run_emulated(kEmulated<kForwards>, problem, at::kFloat, at::kFloat);
  Problem strided = problem;
  strided.x = problem.x.transpose(1, 2).contiguous().transpose(1, 2);
  strided.weight = problem.weight.t().contiguous().t();
  strided.grad_y = problem.grad_y.transpose(0, 2).contiguous().transpose(0, 2);
  const Tensors got = run_emulated(kEmulated<kForwards>, strided, at::kFloat, at::kFloat);
  for (size_t i = 0; i < want.size(); ++i) EXPECT_TRUE(got[i].equal(want[i])) << i;

  const Tensors narrow = run_emulated(kEmulated<kForwards>, problem, at::kBFloat16, at::kFloat);
  EXPECT_EQ(narrow[0].scalar_type(), at::kBFloat16);
  EXPECT_EQ(narrow[1].scalar_type(), at::kFloat);
  for (size_t i = 0; i < want.size(); ++i) EXPECT_LE(relative_error(narrow[i], want[i]), 2e-2) << i;
}

TEST_F(CausalFirCuda, EmptyBatch) {
  const Tensors got = run_emulated(kEmulated<kForwards>, Problem(0, 5, 4, 3, 3), at::kFloat, at::kFloat);
  EXPECT_EQ(got[0].sizes(), at::IntArrayRef({0, 4, 5}));
  EXPECT_EQ(got[3].abs().sum().item<double>(), 0);
}

TEST_F(CausalFirCuda, WideOffsets) {
  const causal_fir_cuda::Item item((int64_t{1} << 40) + 5, int64_t{1} << 20, 7);
  EXPECT_EQ(item.d, 5);
  EXPECT_EQ(item.part, (int64_t{1} << 20) % 7);
  EXPECT_EQ(item.b, (int64_t{1} << 20) / 7);
}

TEST_F(CausalFirCuda, RefusesWhatItCannotTake) {
  const Problem p(1, 3, 4, 2, 1);
  const auto call = [&](const Tensor& x, bool reference) {
    causal_fir_op::cuda_forward(kEmulated<kForwards>, x, p.weight, p.state, {}, reference);
  };
  EXPECT_THROW(call(p.x, true), c10::Error);
  EXPECT_THROW(call(p.x[0], false), c10::Error);
  EXPECT_THROW(call(p.x.to(at::kHalf), false), c10::Error);
}

}  // namespace
}  // namespace causal_fir_cuda_test
}  // namespace hippodrome
