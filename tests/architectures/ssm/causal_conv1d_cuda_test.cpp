// The CUDA kernels of causal_conv1d, emulated on the CPU and called through their binding, against the CPU operator.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <string>
#include <vector>

#include "architectures/ssm/causal_conv1d/causal_conv1d.h"
#include "architectures/ssm/causal_conv1d/cuda_binding.h"
#include "architectures/ssm/causal_conv1d/cuda_kernels.h"
#include "core/cuda/emulator.h"
#include "tests/architectures/op_checks.h"

namespace hippodrome {
namespace causal_conv1d_cuda_test {
namespace {

using op_checks::random_normal;
using op_checks::relative_error;
using Tensors = std::vector<Tensor>;

template <cuda::Order kOrder>
constexpr causal_conv1d_op::CudaKernels kEmulated = {
    [](const CausalConv1dCudaForward& p, void*) {
      return causal_conv1d_cuda::run_forward(p, cuda::EmulatedLauncher{kOrder});
    },
    [](const CausalConv1dCudaBackward& p, void*) {
      return causal_conv1d_cuda::run_backward(p, cuda::EmulatedLauncher{kOrder});
    }};
constexpr auto kForwards = cuda::Order::kForwards, kBackwards = cuda::Order::kBackwards;

// Padding before, inside and behind, long enough to fill tiles; rows that continue and that start anywhere.
Tensor uneven_positions(int64_t batch, int64_t time) {
  Tensor positions = at::empty({batch, time}, at::kLong);
  for (int64_t b = 0; b < batch; ++b) {
    int64_t next = b % 2 == 0 ? 7 : 0;
    for (int64_t t = 0; t < time; ++t) {
      const bool outside = (b % 3 == 1 && t < 2 && time > 2) || (b % 3 == 2 && t + 3 >= time && time > 4);
      const bool gap = t >= 30 && t < 40 + 35 * b;
      if (t == time / 2 + b || t == 65) next = 0;
      positions[b][t] = outside || gap || t % 11 == 5 + b % 3 ? -1 : next++;
    }
  }
  return positions;
}

struct Problem {
  Tensor x, weight;
  OptionalTensor bias, state, positions;
  std::string activation;
  Tensor grad_y, grad_state;

  Problem(int64_t batch, int64_t channels, int64_t time, int64_t taps, int variant)
      : x(random_normal({batch, time, channels}, 1).transpose(1, 2)),
        weight(random_normal({channels, taps}, 2)),
        activation(variant & 1 ? "silu" : ""),
        grad_y(random_normal({batch, time, channels}, 3).transpose(1, 2)),
        grad_state(random_normal({batch, channels, taps - 1}, 4)) {
    if (variant & 1) bias = random_normal({channels}, 5);
    if (variant & 2) state = random_normal({batch, channels, taps - 1}, 6);
    if (variant & 4) positions = uneven_positions(batch, time);
  }
  void round_to(at::ScalarType type) {
    for (Tensor* t : {&x, &grad_y}) *t = t->to(type).to(at::kDouble);
  }
};

OptionalTensor as(const OptionalTensor& t, at::ScalarType type) { return t ? OptionalTensor(t->to(type)) : t; }

// y, final state, gradients of x, weight, bias and state. x and grad_y of `type`, the rest of `wide`.
Tensors run_emulated(const causal_conv1d_op::CudaKernels& kernels, const Problem& p, at::ScalarType type,
                     at::ScalarType wide) {
  const Tensor x = p.x.to(type), weight = p.weight.to(wide);
  const auto bias = as(p.bias, wide), state = as(p.state, wide);
  auto [y, last] = causal_conv1d_op::cuda_forward(kernels, x, weight, bias, p.activation, state, p.positions, false);
  auto [gx, gw, gb, gs] = causal_conv1d_op::cuda_backward(kernels, p.grad_y.to(type), p.grad_state.to(wide), x, weight,
                                                          bias, p.activation, state, p.positions, false);
  return {y, last, gx, gw, gb, gs};
}

// The CPU operator's, in float64; where the problem has no bias or state, of zeros.
Tensors expected_of(const Problem& p) {
  const auto leaf = [](const Tensor& t) { return t.clone().requires_grad_(true); };
  Tensors in = {leaf(p.x), leaf(p.weight), leaf(p.bias ? *p.bias : at::zeros({p.x.size(1)}, at::kDouble)),
                leaf(p.state ? *p.state : at::zeros_like(p.grad_state))};
  const auto out = causal_conv1d(in[0], in[1], in[2], p.activation, in[3], p.positions);
  Tensors result = {out.y.detach(), out.final_state.detach()};
  for (const Tensor& g : torch::autograd::grad({out.y, out.final_state}, in, {p.grad_y, p.grad_state})) {
    result.push_back(g);
  }
  return result;
}

class CausalConv1dCuda : public op_checks::EmptyIsNan {};

TEST_F(CausalConv1dCuda, EqualsTheCpuOperator) {
  double worst64 = 0, worst32 = 0;
  for (int64_t taps : {1, 2, 4, 5, 8, 9, 16}) {
    for (int64_t time : {0, 1, 3, 31, 32, 33, 64, 65, 150}) {
      for (int64_t channels : {1, 6, 131}) {
        if (channels == 131 && time > 40) continue;
        for (int variant = 0; variant < 8; ++variant) {
          if (taps != 4 && variant % 2 == 0 && time > 1) continue;
          SCOPED_TRACE("K " + std::to_string(taps) + " L " + std::to_string(time) + " D " + std::to_string(channels) +
                       " variant " + std::to_string(variant));
          const Problem problem(variant & 4 ? 3 : 2, channels, time, taps, variant);
          const Tensors want = expected_of(problem);
          const Tensors got = run_emulated(kEmulated<kForwards>, problem, at::kDouble, at::kDouble);
          const Tensors single = run_emulated(kEmulated<kBackwards>, problem, at::kFloat, at::kFloat);
          for (size_t i = 0; i < want.size(); ++i) {
            worst64 = std::max(worst64, relative_error(got[i], want[i]));
            worst32 = std::max(worst32, relative_error(single[i], want[i]));
            ASSERT_LE(relative_error(got[i], want[i]), 1e-13) << i;
            // Gradients of the parameters are sums that may cancel, here of as little as one channel.
            ASSERT_LE(relative_error(single[i], want[i]), i == 3 || i == 4 ? 1e-4 : 4e-6) << i;
          }
        }
      }
    }
  }
  RecordProperty("worst_float64", std::to_string(worst64 * 1e15) + "e-15");
  RecordProperty("worst_float32", std::to_string(worst32 * 1e6) + "e-6");
}

TEST_F(CausalConv1dCuda, SixteenBitsInPairsAndAlone) {
  for (at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    for (int64_t taps : {4, 3, 7, 13}) {
      for (int64_t channels : {6, 7}) {
        Problem problem(2, channels, 75, taps, 7);
        problem.round_to(type);
        const Tensors want = expected_of(problem), got = run_emulated(kEmulated<kForwards>, problem, type, at::kFloat);
        EXPECT_EQ(got[0].scalar_type(), type);
        EXPECT_EQ(got[1].scalar_type(), at::kFloat);
        EXPECT_EQ(got[2].scalar_type(), type);
        for (size_t i = 0; i < want.size(); ++i) {
          EXPECT_LE(relative_error(got[i], want[i]), i % 2 == 0 && i < 4 ? 4e-3 : 2e-6) << i << " K " << taps;
        }
      }
    }
  }
}

TEST_F(CausalConv1dCuda, SameBitsInAnyOrder) {
  const Problem problem(2, 70, 150, 4, 7);
  const Tensors a = run_emulated(kEmulated<kForwards>, problem, at::kFloat, at::kFloat),
                b = run_emulated(kEmulated<kBackwards>, problem, at::kFloat, at::kFloat);
  for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(a[i].equal(b[i])) << i;
}

TEST_F(CausalConv1dCuda, StridedInputs) {
  const Problem problem(2, 6, 40, 4, 7);
  const Tensors want = run_emulated(kEmulated<kForwards>, problem, at::kBFloat16, at::kFloat);
  // Columns of wider matrices, aligned to pairs and not, channels apart in memory, time backwards.
  const Tensor wide = at::cat({problem.x, problem.x, problem.x}, 1).transpose(1, 2).contiguous();
  for (const Tensor& x :
       {wide.slice(2, 6, 12).transpose(1, 2), problem.x.contiguous(),
        at::cat({problem.x.slice(1, 5), problem.x}, 1).transpose(1, 2).contiguous().slice(2, 1).transpose(1, 2)}) {
    Problem strided = problem;
    strided.x = x.to(at::kBFloat16, false, false, at::MemoryFormat::Preserve);
    strided.grad_y = problem.grad_y.contiguous();
    const Tensors got = run_emulated(kEmulated<kForwards>, strided, at::kBFloat16, at::kFloat);
    for (size_t i = 0; i < want.size(); ++i) EXPECT_TRUE(got[i].equal(want[i])) << i;
  }
}

TEST_F(CausalConv1dCuda, WithoutSomeGradients) {
  const Problem p(2, 5, 70, 4, 3);
  Problem silent = p;
  silent.grad_y.zero_();
  const Tensors want = run_emulated(kEmulated<kForwards>, silent, at::kDouble, at::kDouble);
  auto [gx, gw, gb, gs] = causal_conv1d_op::cuda_backward(kEmulated<kForwards>, {}, p.grad_state, p.x, p.weight, p.bias,
                                                          p.activation, p.state, p.positions, false);
  const Tensors got = {gx, gw, gb, gs};
  for (size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(got[i].equal(want[i + 2])) << i;
}

TEST_F(CausalConv1dCuda, InPlace) {
  const at::NoGradGuard no_gradients;
  for (int64_t time : {1, 2, 33, 70}) {
    for (int variant : {3, 7}) {
      const Problem p(3, 6, time, 4, variant);
      const auto want = causal_conv1d(p.x, p.weight, p.bias, p.activation, p.state, p.positions);
      for (const bool emulated : {true, false}) {
        const Tensor state = p.state->clone();
        const Tensor y = emulated ? causal_conv1d_op::cuda_in_place(kEmulated<kForwards>, p.x, p.weight, p.bias,
                                                                    p.activation, state, p.positions)
                                  : causal_conv1d_in_place(p.x, p.weight, p.bias, p.activation, state, p.positions);
        EXPECT_LE(relative_error(y, want.y), 1e-14);
        EXPECT_TRUE(state.equal(want.final_state));
      }
    }
  }
  // Single tokens that start a sequence or are padding.
  Problem p(2, 6, 1, 4, 3);
  p.positions = at::zeros({2, 1}, at::kLong);
  (*p.positions)[1][0] = -1;
  const auto want = causal_conv1d(p.x, p.weight, p.bias, p.activation, p.state, p.positions);
  const Tensor state = p.state->clone();
  const Tensor y =
      causal_conv1d_op::cuda_in_place(kEmulated<kForwards>, p.x, p.weight, p.bias, p.activation, state, p.positions);
  EXPECT_LE(relative_error(y, want.y), 1e-14);
  EXPECT_TRUE(state.equal(want.final_state));
}

TEST_F(CausalConv1dCuda, EmptyBatchAndNoChannels) {
  for (int variant : {3, 7}) {
    for (const Problem& p : {Problem(0, 5, 4, 4, variant), Problem(2, 0, 4, 4, variant)}) {
      const Tensors got = run_emulated(kEmulated<kForwards>, p, at::kFloat, at::kFloat);
      EXPECT_EQ(got[0].sizes(), p.x.sizes());
      EXPECT_EQ(got[3].sizes(), p.weight.sizes());
      EXPECT_EQ(got[3].abs().sum().item<double>(), 0);
    }
  }
}

// Offsets beyond 2^31 elements: a row of one channel that lies far behind the first.
TEST_F(CausalConv1dCuda, WideStrides) {
  const causal_conv1d_cuda::Item<2> item((int64_t{1} << 33) + 5, int64_t{1} << 20, 7);
  EXPECT_EQ(item.c, 10);
  EXPECT_EQ(item.tile, (int64_t{1} << 14) % 7);
  EXPECT_EQ(item.b, (int64_t{1} << 14) / 7);
  int64_t entry[2] = {((int64_t{1} << 40) << cuda::kReachBits) + 3, 0};
  int64_t count = 1, positions[2] = {3, -1};
  cuda::TokenList list{1, 2, positions, entry, &count};
  EXPECT_EQ(cuda::TokenRow(list, 0).place(0), int64_t{1} << 40);
  EXPECT_EQ(cuda::TokenRow(list, 0).reach(0), 3);
}

TEST_F(CausalConv1dCuda, RefusesWhatItCannotTake) {
  const Problem p(1, 3, 4, 2, 3);
  const auto call = [&](const Tensor& x, bool reference) {
    causal_conv1d_op::cuda_forward(kEmulated<kForwards>, x, p.weight, p.bias, "silu", p.state, {}, reference);
  };
  EXPECT_THROW(call(p.x, true), c10::Error);
  EXPECT_THROW(call(p.x[0], false), c10::Error);
  EXPECT_THROW(causal_conv1d_op::cuda_in_place(kEmulated<kForwards>, p.x, p.weight, p.bias, "", *p.state, {}),
               c10::Error);  // with gradients on
}

}  // namespace
}  // namespace causal_conv1d_cuda_test
}  // namespace hippodrome
