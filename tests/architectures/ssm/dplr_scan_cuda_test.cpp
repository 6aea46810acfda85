// The CUDA kernels of the diagonal-plus-low-rank scan, run on the CPU (core/cuda/emulator.h) through their binding.
#include <ATen/ops/rand.h>
#include <ATen/ops/stack.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <optional>
#include <tuple>

#include "architectures/ssm/dplr_scan/cuda_binding.h"
#include "architectures/ssm/dplr_scan/cuda_kernels.h"
#include "architectures/ssm/dplr_scan/dplr_scan.h"
#include "core/cuda/emulator.h"
#include "tests/architectures/ssm/mode_scan_checks.h"

namespace hippodrome {
namespace dplr_scan_cuda_test {
namespace {

using namespace mode_scan_checks;
using dplr_scan_op::CudaKernels;

template <cuda::Order kOrder>
CudaKernels emulated() {
  return {
      [](const DplrScanForwardCuda& p, void*) { return run_dplr_scan_forward(p, cuda::EmulatedLauncher{kOrder}); },
      [](const DplrScanBackwardCuda& p, void*) { return run_dplr_scan_backward(p, cuda::EmulatedLauncher{kOrder}); }};
}

// u [B, D, L], a, b, c, q, w, and the state where there is one.
dplr_scan_op::Arguments arguments_of(const Tensors& in, const at::Tensor& positions) {
  return {in[0],
          {in[1], in[2], in[3], in[4], in[5]},
          in.size() > 6 ? OptionalTensor(in[6]) : std::nullopt,
          if_defined(positions)};
}

Evaluation run(const Tensors& in, const at::Tensor& positions, const Tensors& cotangents,
               const CudaKernels& kernels = emulated<cuda::Order::kForwards>(),
               const std::optional<ScanSegments>& segments = std::nullopt) {
  const dplr_scan_op::Arguments arguments = arguments_of(in, positions);
  const auto [y, last_state, readouts] = dplr_scan_op::cuda_forward(arguments, true, kernels, segments);
  const auto gradients =
      dplr_scan_op::cuda_backward(cotangents[0], cotangents[1], arguments, readouts, kernels, segments);
  return {{y, last_state}, Tensors(gradients.begin(), gradients.begin() + static_cast<int64_t>(in.size()))};
}

Evaluation run_forwards(const Tensors& in, const at::Tensor& positions, const Tensors& cotangents) {
  const Evaluation e = run(in, positions, cotangents);
  const auto unsaved =
      dplr_scan_op::cuda_forward(arguments_of(in, positions), false, emulated<cuda::Order::kForwards>());
  expect_same_bits({unsaved.y, unsaved.last_state}, e.outputs, "nothing kept");
  return e;
}

Op op(bool reference, const at::Tensor& positions) {
  return [=](const Tensors& in) -> Tensors {
    auto [y, state] =
        dplr_scan(in[0], in[1], in[2], in[3], in[4], in[5], in.size() > 6 ? in[6] : at::Tensor(), positions, reference);
    return {y, state};
  };
}
Op plain(const at::Tensor& positions) { return op(true, positions); }

// |a| up to 0.9 and a low rank of norm below 0.1, so that states neither explode nor vanish.
Tensors inputs(int64_t batch, int64_t channels, int64_t length, int64_t states, int64_t rank, bool state,
               double least = 0.5, double most = 0.9) {
  seed();
  const at::Tensor radius = at::rand({channels, states}, at::kDouble).mul(most - least).add(least);
  const at::Tensor angle = at::rand({channels, states}, at::kDouble).mul(3.0);
  const auto normal = [&](at::IntArrayRef shape) { return at::randn(shape, at::kDouble); };
  const double small = 0.15 / std::sqrt(static_cast<double>(states * rank));
  Tensors in{normal({batch, length, channels}).transpose(1, 2),
             at::stack({radius.mul(angle.cos()), radius.mul(angle.sin())}, -1),
             normal({channels, states, 2}),
             normal({channels, states, 2}),
             normal({channels, rank, states, 2}).mul(small),
             normal({channels, rank, states, 2}).mul(0.3)};
  if (state) in.push_back(normal({batch, channels, states, 2}));
  return in;
}

struct Case {
  int64_t batch, channels, length, states, rank;
};
// Lengths below, at and above a tile of 32 tokens; states of one lane, 8 threads, a warp and a block; the last is cut
// into segments of 160 tokens where it has no positions.
const std::vector<Case> kCases = {{1, 1, 1, 1, 1},   {3, 3, 31, 4, 2},   {1, 8, 32, 32, 1},  {2, 9, 33, 31, 2},
                                  {2, 5, 40, 33, 1}, {1, 4, 65, 128, 2}, {2, 1, 34, 129, 1}, {1, 2, 33, 300, 2},
                                  {3, 17, 70, 5, 1}, {1, 9, 2050, 2, 1}};

TEST(DplrScanCuda, EqualsTheReference) {
  WorstErrors worst;
  for (const Case& c : kCases) {
    expect_emulated_equals_in_all_variants(
        op, run_forwards, [&](bool state) { return inputs(c.batch, c.channels, c.length, c.states, c.rank, state); },
        ::testing::PrintToString(std::make_tuple(c.batch, c.channels, c.length, c.states, c.rank)), worst);
  }
  worst.record();
}

// States that a whole sequence passes through, in blocks of both widths that are cut.
TEST(DplrScanCuda, SlowDecayAcrossSegments) {
  for (const auto& [batch, states, rank] : {std::array<int64_t, 3>{2, 3, 2}, {1, 33, 1}}) {
    Tensors in = inputs(batch, 2, 2070, states, rank, true, 0.9985, 0.9999);
    in[4].mul_(0.02);  // the low rank must not make them explode
    const Op reference = plain({});
    const Tensors cotangents = random_like(reference(in));
    const Evaluation exact = evaluate(reference, in, cotangents), mine = run(in, {}, cotangents);
    expect_close(mine.outputs, exact.outputs, 1e-11, "outputs");
    expect_close(mine.gradients, exact.gradients, 1e-10, "gradients");
  }
}

// Short sequences in segments, blocks of both shapes that are cut.
TEST(DplrScanCuda, AnyCutIntoSegments) {
  WorstErrors worst;
  for (const auto& [batch, channels, states, rank] :
       {std::array<int64_t, 4>{2, 9, 3, 2}, {1, 3, 32, 1}, {1, 5, 33, 2}, {2, 1, 64, 1}}) {
    for (const ScanSegments segments : {ScanSegments{3, 32}, ScanSegments{2, 64}}) {
      for (const bool state : {false, true}) {
        expect_emulated_equals(
            plain({}),
            [&](const Tensors& t, const Tensors& cotangents) {
              return run(t, {}, cotangents, emulated<cuda::Order::kForwards>(), segments);
            },
            inputs(batch, channels, 70, states, rank, state, 0.9, 0.99), 2, 3,
            ::testing::PrintToString(std::make_tuple(batch, channels, states, rank, segments.count, state)), worst);
      }
    }
  }
  worst.record();
}

TEST(DplrScanCuda, SameBitsInAnyOrderOfThreadsAndBlocks) {
  const auto same = [](const Tensors& in, const at::Tensor& positions, const ScanSegments& segments) {
    const Tensors cotangents = random_like(plain(positions)(in));
    const Evaluation a = run(in, positions, cotangents, emulated<cuda::Order::kForwards>(), segments),
                     b = run(in, positions, cotangents, emulated<cuda::Order::kBackwards>(), segments);
    expect_same_bits(a.outputs, b.outputs, "outputs");
    expect_same_bits(a.gradients, b.gradients, "gradients");
  };
  for (const int64_t states : {9, 40, 150}) {
    const Tensors in = cast(inputs(2, states > 9 ? 2 : 10, 45, states, 2, true), at::kFloat);
    same(in, mixed_positions(2, 45), {1, 45});
    if (states <= 9) same(in, {}, {2, 32});
  }
}

TEST(DplrScanCuda, Bfloat16KeepsItsStateInFloat32) {
  const Tensors in = cast(inputs(2, 10, 40, 6, 1, true), at::kBFloat16);
  const Tensors cotangents = random_like(plain({})(in));
  const Evaluation rough = run(in, {}, cotangents), fine = run(cast(in, at::kFloat), {}, cast(cotangents, at::kFloat));
  EXPECT_EQ(rough.outputs[0].scalar_type(), at::kBFloat16);
  EXPECT_TRUE(rough.outputs[0].equal(fine.outputs[0].to(at::kBFloat16)));
  expect_same_bits({rough.outputs[1]}, {fine.outputs[1]}, "state");
  for (size_t i = 0; i < in.size(); ++i) {
    EXPECT_TRUE(rough.gradients[i].equal(fine.gradients[i].to(at::kBFloat16))) << i;
  }
}

TEST(DplrScanCuda, LayoutsAndEmptyInputs) {
  expect_emulated_takes_any_layout_and_empty_inputs(op, run_forwards, inputs(3, 18, 11, 4, 1, true));
  const Tensors many = inputs(1, 1, 1, 513, 1, false);
  EXPECT_THROW(run(many, {}, random_like(plain({})(many))), c10::Error);
}

TEST(DplrScanCuda, SegmentsAndOffsets) {
  EXPECT_EQ(dplr_scan_segments(1, 256, 2047, 32, false).count, 1);   // short
  EXPECT_EQ(dplr_scan_segments(9, 256, 65536, 32, false).count, 1);  // 288 blocks as it is
  EXPECT_EQ(dplr_scan_segments(1, 256, 65536, 65, false).count, 1);  // a matrix too large
  EXPECT_EQ(dplr_scan_segments(1, 256, 65536, 32, true).count, 1);   // positions
  EXPECT_EQ(dplr_scan_segments(1, 256, 16384, 32, false).count, 64);
  EXPECT_EQ(dplr_scan_segments(1, 256, 16384, 32, false).length, 256);
  using L = dplr_scan_cuda::Layout<float, 1, 8, 64>;
  DplrScanProblem p;
  p.batch = 1000000, p.channels = 5001, p.states = 32;
  const auto last = L::place(p, L::places(p) - 1);
  EXPECT_EQ(std::make_tuple(last.row, last.channel), std::make_tuple(int64_t{999999}, int64_t{5000}));
  EXPECT_TRUE(L::mine(p, last, 0).has(0));
  EXPECT_FALSE(L::mine(p, last, 8).has(0));
}

}  // namespace
}  // namespace dplr_scan_cuda_test
}  // namespace hippodrome
