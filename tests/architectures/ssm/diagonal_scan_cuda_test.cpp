// The CUDA kernels of the diagonal scan, run on the CPU (core/cuda/emulator.h) through their binding.
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <gtest/gtest.h>

#include <limits>
#include <tuple>

#include "architectures/ssm/diagonal_scan/cuda_binding.h"
#include "architectures/ssm/diagonal_scan/cuda_kernels.h"
#include "architectures/ssm/diagonal_scan/diagonal_scan.h"
#include "core/cuda/emulator.h"
#include "tests/architectures/ssm/mode_scan_checks.h"

namespace hippodrome {
namespace diagonal_scan_cuda_test {
namespace {

using namespace mode_scan_checks;
using diagonal_scan_op::CudaKernels;

template <cuda::Order kOrder>
CudaKernels emulated() {
  return {[](const DiagonalScanForwardCuda& p, void*) {
            return run_diagonal_scan_forward(p, cuda::EmulatedLauncher{kOrder});
          },
          [](const DiagonalScanBackwardCuda& p, void*) {
            return run_diagonal_scan_backward(p, cuda::EmulatedLauncher{kOrder});
          }};
}

// u [B, D, L], six parameters, and the state where there is one.
Evaluation run(const Tensors& in, const at::Tensor& positions, const Tensors& cotangents,
               const CudaKernels& kernels = emulated<cuda::Order::kForwards>()) {
  const diagonal_scan_op::Arguments arguments{in[0],
                                              {in[1], in[2], in[3], in[4], in[5], in[6]},
                                              in.size() > 7 ? OptionalTensor(in[7]) : std::nullopt,
                                              if_defined(positions)};
  const auto [y, last_state, nothing] = diagonal_scan_op::cuda_forward(arguments, kernels);
  const auto gradients = diagonal_scan_op::cuda_backward(cotangents[0], cotangents[1], arguments, kernels);
  return {{y, last_state}, Tensors(gradients.begin(), gradients.begin() + static_cast<int64_t>(in.size()))};
}

Evaluation run_forwards(const Tensors& in, const at::Tensor& positions, const Tensors& cotangents) {
  return run(in, positions, cotangents);
}

Op op(bool reference, const at::Tensor& positions) {
  return [=](const Tensors& in) -> Tensors {
    auto [y, state] = diagonal_scan(in[0], in[1], in[2], in[3], in[4], in[5], in[6],
                                    in.size() > 7 ? in[7] : at::Tensor(), positions, reference);
    return {y, state};
  };
}
Op plain(const at::Tensor& positions) { return op(true, positions); }

Tensors inputs(int64_t batch, int64_t channels, int64_t length, int64_t states, bool state, double least = 0.75) {
  seed();
  const at::Tensor radius = at::rand({channels, states}, at::kDouble).mul(0.999 - least).add(least);
  const at::Tensor angle = at::rand({channels, states}, at::kDouble).mul(3.0);
  Tensors in{at::randn({batch, length, channels}, at::kDouble).transpose(1, 2), radius.mul(angle.cos()),
             radius.mul(angle.sin())};
  for (int i = 0; i < 4; ++i) in.push_back(at::randn({channels, states}, at::kDouble));
  if (state) in.push_back(at::randn({batch, channels, states, 2}, at::kDouble));
  return in;
}

struct Case {
  int64_t batch, channels, length, states;
};
// Lengths below, at and above a tile of 32 tokens; channels around 32; states of one thread, one warp, two warps, eight
// warps and two launches; the last two are cut into segments of 256 tokens.
const std::vector<Case> kCases = {{2, 1, 1, 1},    {3, 3, 31, 4},  {1, 33, 32, 8}, {2, 32, 33, 9},  {1, 2, 100, 33},
                                  {3, 40, 65, 32}, {3, 2, 130, 2}, {2, 5, 70, 70}, {2, 3, 1030, 3}, {1, 33, 1025, 9}};

TEST(DiagonalScanCuda, EqualsTheReference) {
  WorstErrors worst;
  for (const Case& c : kCases) {
    expect_emulated_equals_in_all_variants(
        op, run_forwards, [&](bool state) { return inputs(c.batch, c.channels, c.length, c.states, state); },
        ::testing::PrintToString(std::make_tuple(c.batch, c.channels, c.length, c.states)), worst);
  }
  worst.record();
}

// States that a whole sequence passes through, without and with padding among its tokens.
TEST(DiagonalScanCuda, SlowDecayAcrossSegments) {
  const at::Tensor mixed = mixed_positions(2, 4096);
  for (const at::Tensor& positions : {at::Tensor(), mixed.masked_fill(mixed.eq(0), 1)}) {
    const Tensors in = inputs(2, 2, 4096, 2, true, 0.9985);
    const Tensors cotangents = random_like(plain(positions)(in));
    const Evaluation exact = evaluate(plain(positions), in, cotangents), mine = run(in, positions, cotangents);
    expect_close(mine.outputs, exact.outputs, 1e-12, "outputs");
    expect_close(mine.gradients, exact.gradients, 1e-11, "gradients");
  }
}

TEST(DiagonalScanCuda, SameBitsInAnyOrderOfThreadsAndBlocks) {
  for (const Case& c : {Case{2, 34, 70, 9}, Case{2, 3, 1030, 40}}) {
    const Tensors in = cast(inputs(c.batch, c.channels, c.length, c.states, true), at::kFloat);
    const at::Tensor positions = mixed_positions(c.batch, c.length);
    const Tensors cotangents = random_like(plain(positions)(in));
    const Evaluation a = run(in, positions, cotangents),
                     b = run(in, positions, cotangents, emulated<cuda::Order::kBackwards>());
    expect_same_bits(a.outputs, b.outputs, "outputs");
    expect_same_bits(a.gradients, b.gradients, "gradients");
  }
}

TEST(DiagonalScanCuda, Bfloat16KeepsItsStateInFloat32) {
  for (const int64_t states : {5, 40}) {
    const Tensors in = cast(inputs(2, 20, 40, states, true), at::kBFloat16);
    const at::Tensor positions = mixed_positions(2, 40);
    const Tensors wide = cast(in, at::kFloat), cotangents = cast(random_like(plain(positions)(in)), at::kBFloat16);
    const Evaluation rough = run(in, positions, cotangents), fine = run(wide, positions, cast(cotangents, at::kFloat));
    EXPECT_EQ(rough.outputs[0].scalar_type(), at::kBFloat16);
    EXPECT_EQ(rough.gradients[0].scalar_type(), at::kBFloat16);
    EXPECT_TRUE(rough.outputs[0].equal(fine.outputs[0].to(at::kBFloat16)));
    EXPECT_TRUE(rough.gradients[0].equal(fine.gradients[0].to(at::kBFloat16)));
    expect_same_bits({rough.outputs[1]}, {fine.outputs[1]}, "state");
    for (size_t i = 1; i < in.size(); ++i) {
      EXPECT_TRUE(rough.gradients[i].equal(fine.gradients[i].to(at::kBFloat16))) << i;
    }
  }
}

TEST(DiagonalScanCuda, LayoutsAndEmptyInputs) {
  expect_emulated_takes_any_layout_and_empty_inputs(op, run_forwards, inputs(3, 18, 11, 4, true));
}

TEST(DiagonalScanCuda, SegmentsAndOffsets) {
  EXPECT_EQ(diagonal_scan_segments(1, 256, 1023).count, 1);    // short
  EXPECT_EQ(diagonal_scan_segments(17, 256, 65536).count, 1);  // 136 blocks as it is
  const ScanSegments cut = diagonal_scan_segments(1, 256, 65536);
  EXPECT_EQ(cut.count, 33);
  EXPECT_EQ(cut.length % 32, 0);
  EXPECT_EQ(diagonal_scan_segments(0, 256, 65536).count, 1);
  DiagonalScanProblem p;
  p.batch = 3, p.channels = 5000, p.length = 4000000, p.states = 64;
  p.segments = {2, 2000000};
  const auto last = diagonal_scan_cuda::place(p, diagonal_scan_cuda::places(p) - 1);
  EXPECT_EQ(std::make_tuple(last.row, last.segment, last.channel, last.begin, last.end),
            std::make_tuple(int64_t{2}, int64_t{1}, int64_t{4992}, int64_t{2000000}, int64_t{4000000}));
  p.segments.count = 1000000;
  EXPECT_EQ(diagonal_scan_cuda::sum_index(p, 2, 999999, 5, 63, 4999), int64_t{3} * 1000000 * 6 * 64 * 5000 - 1);
}

}  // namespace
}  // namespace diagonal_scan_cuda_test
}  // namespace hippodrome
