// wkv4's CUDA kernels, emulated (core/cuda/emulator.h), against the plain loops.
#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "architectures/rwkv/wkv4/cuda_binding.h"
#include "architectures/rwkv/wkv4/cuda_kernels.h"
#include "core/cuda/emulator.h"
#include "tests/architectures/rwkv/wkv4_problem.h"

namespace hippodrome::wkv4_test {
namespace {

using cuda::Order;

// The "stream" is the order of threads and blocks.
wkv4_op::CudaKernels emulated(Order& order) {
  return {[](const Wkv4CudaForward& p, void* stream) {
            return run_wkv4_forward(p, cuda::EmulatedLauncher{*static_cast<Order*>(stream)});
          },
          [](const Wkv4CudaBackward& p, void* stream) {
            return run_wkv4_backward(p, cuda::EmulatedLauncher{*static_cast<Order*>(stream)});
          },
          &order};
}

// As `run` of wkv4_problem.h. w, u, the state and its gradient are of `type`, but float for 16-bit types.
std::vector<Tensor> run_emulated(const Problem& problem, at::ScalarType type, bool grad_state = true,
                                 Order order = Order::kForwards) {
  const auto scalar = at_least_float32(type);
  const Tensor w = problem.w.to(scalar), u = problem.u.to(scalar), k = problem.k.to(type), v = problem.v.to(type);
  MaybeTensor state;
  if (problem.state) state = problem.state->to(scalar);
  const auto kernels = emulated(order);
  const auto [y, last, none] = wkv4_op::forward_with(kernels, w, u, k, v, state, problem.positions, false);
  const auto [y_kept, last_kept, checkpoints] =
      wkv4_op::forward_with(kernels, w, u, k, v, state, problem.positions, true);
  EXPECT_TRUE(at::allclose(y, y_kept, 0, 0, true) && at::allclose(last, last_kept, 0, 0, true));
  const auto [gw, gu, gk, gv, gs] = wkv4_op::backward_with(
      kernels, problem.grad_y.to(type), grad_state ? MaybeTensor(problem.grad_state.to(scalar)) : std::nullopt, w, u, k,
      v, state, problem.positions, checkpoints);
  std::vector<Tensor> result = {y, last, gw, gu, gk, gv};
  if (state) result.push_back(gs);
  return result;
}

// NaN and infinity count as a difference.
void expect_close(const std::vector<Tensor>& got, const std::vector<Tensor>& expected, double tolerance,
                  const std::vector<Tensor>& plain = {}) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    double bound = tolerance;
    if (!plain.empty()) {  // the tolerances of the CPU's kernels in float32
      const double floor = i == 2 || i == 3 ? 4e-6 : tolerance;
      bound = std::max(floor, (i < 2 ? 2 : 3) * relative_rms(plain[i], expected[i]));
    }
    EXPECT_LE(relative_rms(got[i], expected[i]), bound) << kNames[i];
  }
}

// A kernel may read only what it wrote: memory handed out by `empty` holds NaN here.
class Wkv4Cuda : public ::testing::Test {
 protected:
  void SetUp() override { at::globalContext().setDeterministicAlgorithms(true, false); }
  void TearDown() override { at::globalContext().setDeterministicAlgorithms(false, false); }
};

// Below 256 tokens one segment, from there on segments of 64: lengths around groups of 8, chunks, segments and the
// groups of segments that carries are made of.
TEST_F(Wkv4Cuda, EqualsTheReference) {
  for (int64_t time : {1, 7, 8, 9, 63, 64, 65, 130, 255, 256, 257, 513, 576, 577, 650}) {
    for (int variant = 0; variant < 8; ++variant) {
      const int64_t channels = time > 256 ? 3 : 1 + (variant * 5 + time) % 19;
      SCOPED_TRACE("T " + std::to_string(time) + " variant " + std::to_string(variant));
      Problem problem(variant & 4 ? 3 : 1, time, channels, variant & 1, variant & 2, 10 * time + channels);
      if ((variant & 2) && time > 257) problem.positions->slice(1, 100, 300).fill_(-1);  // segments of padding only
      const auto exact = run(wkv4_reference, problem, at::kDouble);
      expect_close(run_emulated(problem, at::kDouble), exact, 1e-12);
      const auto forwards = run_emulated(problem, at::kFloat);
      expect_close(forwards, exact, 1e-6, run(wkv4_reference, problem, at::kFloat));
      const auto backwards = run_emulated(problem, at::kFloat, true, Order::kBackwards);
      for (size_t i = 0; i < forwards.size(); ++i) EXPECT_TRUE(same_bits(forwards[i], backwards[i])) << kNames[i];
    }
  }
}

TEST_F(Wkv4Cuda, ManyBlocksAndLongSegments) {
  for (const Problem& problem : {Problem(3, 40, 300, true, true, 2), Problem(1, 5000, 2, true, false, 3)}) {
    const auto exact = run(wkv4_reference, problem, at::kDouble);
    expect_close(run_emulated(problem, at::kDouble), exact, 1e-12);
    expect_close(run_emulated(problem, at::kFloat), exact, 1e-6, run(wkv4_reference, problem, at::kFloat));
  }
}

TEST_F(Wkv4Cuda, SixteenBitInputs) {
  for (const auto& [type, tolerance] : {std::pair(at::kBFloat16, 3e-3), std::pair(at::kHalf, 4e-4)}) {
    for (int64_t time : {100, 300}) {
      Problem problem(2, time, 9, true, true, 4);
      for (Tensor* x : {&problem.k, &problem.v, &problem.grad_y}) *x = x->to(type).to(at::kDouble);
      const auto got = run_emulated(problem, type), exact = run(wkv4_reference, problem, at::kDouble);
      expect_close(got, exact, tolerance);
      for (size_t i : {1, 2, 3, 6}) EXPECT_LE(relative_rms(got[i], exact[i]), 2e-6) << kNames[i];
      for (size_t i : {0, 4, 5}) EXPECT_EQ(got[i].scalar_type(), type) << kNames[i];
    }
  }
}

TEST_F(Wkv4Cuda, GradientsMayBeAbsent) {
  for (int64_t time : {130, 300}) {
    const Problem problem(2, time, 5, true, true, 5);
    expect_close(run_emulated(problem, at::kDouble, false), run(wkv4_reference, problem, at::kDouble, false), 1e-12);
    Problem silent = problem;
    silent.grad_y = at::zeros_like(problem.grad_y);
    const auto expected = run(wkv4_reference, silent, at::kDouble);
    Order order = Order::kForwards;
    const auto kernels = emulated(order);
    const auto checkpoints = std::get<2>(wkv4_op::forward_with(kernels, problem.w, problem.u, problem.k, problem.v,
                                                               problem.state, problem.positions, true));
    const auto [gw, gu, gk, gv, gs] =
        wkv4_op::backward_with(kernels, std::nullopt, problem.grad_state, problem.w, problem.u, problem.k, problem.v,
                               problem.state, problem.positions, checkpoints);
    expect_close({expected[0], expected[1], gw, gu, gk, gv, gs}, expected, 1e-12);
  }
}

TEST_F(Wkv4Cuda, StridedInputs) {
  for (int64_t time : {33, 270}) {
    const Problem problem(2, time, 7, true, true, 6);
    const auto expected = run_emulated(problem, at::kFloat);
    Problem strided = problem;
    const Tensor both = at::cat({problem.k, problem.v}, 2).to(at::kFloat);
    strided.k = both.slice(2, 0, 7);
    strided.v = problem.v.to(at::kFloat).transpose(0, 1).contiguous().transpose(0, 1);
    strided.grad_y = problem.grad_y.to(at::kFloat).transpose(1, 2).contiguous().transpose(1, 2);
    strided.state = problem.state->to(at::kFloat).transpose(1, 2).contiguous().transpose(1, 2);
    strided.positions = problem.positions->t().contiguous().t();
    strided.w = at::cat({problem.w.to(at::kFloat).unsqueeze(1), at::zeros({7, 1})}, 1).select(1, 0);
    const auto got = run_emulated(strided, at::kFloat);
    for (size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(same_bits(got[i], expected[i])) << kNames[i];
  }
}

TEST_F(Wkv4Cuda, EmptyBatchesSequencesAndPadding) {
  for (const auto& [batch, time, channels] : {std::tuple(0, 300, 4), std::tuple(2, 0, 4), std::tuple(2, 5, 0)}) {
    const Problem problem(batch, time, channels, true, false, 7);
    const auto got = run_emulated(problem, at::kDouble);
    expect_close(got, run(wkv4, problem, at::kDouble), 1e-15);
    EXPECT_TRUE(time > 0 || (same_bits(got[1], *problem.state) && same_bits(got[6], problem.grad_state)));
  }
  for (int64_t time : {5, 300}) {
    for (bool with_state : {true, false}) {
      Problem problem(2, time, 4, with_state, false, 8);
      problem.positions = at::full({2, time}, -1, at::kLong);
      const auto got = run_emulated(problem, at::kDouble);
      expect_close(got, run(wkv4_reference, problem, at::kDouble), 1e-13);
      EXPECT_TRUE(!with_state || same_bits(got[1], *problem.state));
    }
  }
}

TEST_F(Wkv4Cuda, LargeKeysStayFinite) {
  for (int64_t time : {200, 400}) {
    Problem problem(1, time, 6, true, false, 9);
    problem.k.mul_(40).clamp_(-80, 80);
    problem.k.slice(1, 50, 60).fill_(80);
    problem.k.slice(1, 100, 190).fill_(-80);
    const auto exact = run(wkv4_reference, problem, at::kDouble), plain = run(wkv4_reference, problem, at::kFloat);
    const auto got = run_emulated(problem, at::kFloat);
    for (const Tensor& x : got) EXPECT_TRUE(x.isfinite().all().item<bool>());
    expect_close(got, exact, 1e-5, plain);
    expect_close(run_emulated(problem, at::kDouble), exact, 1e-11);
  }
}

// A gradient of the maximum flows through segments in which no key wins, and through no others.
TEST_F(Wkv4Cuda, SmallKeysHandTheGradientOfTheMaximumOn) {
  Problem problem(1, 300, 2, true, false, 10);
  problem.w.fill_(-1e-3);
  problem.k.fill_(-3).select(2, 1).select(1, 100).fill_(2);
  problem.state->select(1, 2).fill_(1);
  const auto got = run_emulated(problem, at::kDouble), exact = run(wkv4_reference, problem, at::kDouble);
  expect_close(got, exact, 1e-12);
  EXPECT_GT((got[6].select(1, 2) - (got[6] * *problem.state).narrow(1, 0, 2).sum(1)).abs()[0][0].item<double>(), 1e-3);
}

// What diverges stays in its sequence and channel, forward and backward.
TEST_F(Wkv4Cuda, NotANumberSpreadsNoFurtherThanItMust) {
  Problem problem(1, 400, 3, true, false, 11);
  problem.positions = at::arange(400).unsqueeze(0).add(9);
  problem.positions->slice(1, 250).sub_(259);
  const auto clean = run_emulated(problem, at::kDouble);
  Problem spoilt = problem;
  spoilt.k = problem.k.clone();
  spoilt.k[0][150][1].fill_(NAN);
  const auto got = run_emulated(spoilt, at::kDouble);
  EXPECT_EQ(got[0].isnan().sum().item<int64_t>(), 100);
  EXPECT_TRUE(got[0].slice(1, 150, 250).select(2, 1).isnan().all().item<bool>());
  EXPECT_TRUE(same_bits(got[1], clean[1]));
  spoilt.k = problem.k;
  spoilt.grad_y = problem.grad_y.clone();
  spoilt.grad_y[0][300][1].fill_(NAN);
  const Tensor gk = run_emulated(spoilt, at::kDouble)[4];
  EXPECT_TRUE(gk.slice(1, 250, 300).select(2, 1).isnan().all().item<bool>());
  EXPECT_EQ(gk.isnan().sum().item<int64_t>(), 51);
}

// Everything about segments follows from the shape.
TEST_F(Wkv4Cuda, SegmentsFollowTheRule) {
  EXPECT_EQ(wkv4_cuda_segment(32, 1024, 100000), 100000);
  EXPECT_EQ(wkv4_cuda_segment(1, 2048, 255), 255);
  EXPECT_EQ(wkv4_cuda_segment(1, 2048, 256), 64);
  EXPECT_EQ(wkv4_cuda_segment(1, 2048, 65536), 1024);
  EXPECT_EQ(wkv4_cuda_segment(0, 8, 0), 1);
  for (int64_t pairs : {1, 7, 2048, 20000, 32767}) {
    for (int64_t time : {256, 1000, 65536, 1000003}) {
      const int64_t segment = wkv4_cuda_segment(1, pairs, time), segments = wkv4_cuda_segments(time, segment);
      EXPECT_EQ(segment % kWkv4Chunk, 0);
      EXPECT_GT(segments, 1);
      EXPECT_LE(segments, segment);
      EXPECT_LE(segments * pairs, int64_t{1} << 17);
    }
  }
}

TEST_F(Wkv4Cuda, IndicesBeyondTwoToThe31) {
  const int64_t segments = 1000003, channels = 5003, index = ((7 * segments + 1000001) * channels) + 5001;
  const wkv4_cuda::Place at = wkv4_cuda::place_of(index, segments, channels);
  EXPECT_EQ(at.b, 7);
  EXPECT_EQ(at.segment, 1000001);
  EXPECT_EQ(at.c, 5001);
  EXPECT_EQ(wkv4_cuda::entry<3>(7, segments, 1000001, channels, 5001), (7 * segments + 1000001) * 3 * channels + 5001);
  const Wkv4Tokens tokens{nullptr, int64_t{1} << 32, 4096};
  EXPECT_EQ(wkv4_cuda::column_start(tokens, 3, 17), (int64_t{3} << 32) + 17);
}

TEST_F(Wkv4Cuda, WrongArgumentsAreNamed) {
  const Problem problem(2, 4, 3, true, false, 12);
  Order order = Order::kForwards;
  const auto call = [&](const Tensor& w, const Tensor& k) {
    wkv4_op::forward_with(emulated(order), w, problem.u, k, problem.v, problem.state, std::nullopt, false);
  };
  EXPECT_THROW(call(problem.k, problem.k), c10::Error);
  EXPECT_THROW(call(problem.w, problem.k[0]), c10::Error);
  EXPECT_THROW(call(problem.w.to(at::kMeta), problem.k), c10::Error);
}

}  // namespace
}  // namespace hippodrome::wkv4_test
