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
#include "tests/architectures/recurrent/scan_checks.h"

namespace hippodrome {
namespace diagonal_scan_cuda_test {
namespace {

using namespace scan_checks;
using diagonal_scan_op::CudaKernels;
using diagonal_scan_op::Parameters;

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
  const Parameters parameters{in[1], in[2], in[3], in[4], in[5], in[6]};
  const OptionalTensor state = in.size() > 7 ? OptionalTensor(in[7]) : std::nullopt;
  const OptionalTensor at = if_defined(positions);
  const auto [y, last_state, checkpoints] =
      diagonal_scan_op::cuda_forward(in[0], parameters, state, at, false, kernels);
  const auto gradients =
      diagonal_scan_op::cuda_backward(cotangents[0], cotangents[1], in[0], parameters, state, at, false, kernels);
  Evaluation e{{y, last_state}, {}};
  std::apply([&](const auto&... g) { (e.gradients.push_back(g), ...); }, gradients);
  e.gradients.resize(in.size());
  return e;
}

Op plain(at::Tensor positions) {
  return [=](const Tensors& in) -> Tensors {
    auto [y, state] = diagonal_scan(in[0], in[1], in[2], in[3], in[4], in[5], in[6],
                                    in.size() > 7 ? in[7] : at::Tensor(), positions, true);
    return {y, state};
  };
}

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
  double worst[2] = {0.0, 0.0};
  for (const Case& c : kCases) {
    for (const int variant : {0, 1, 2}) {  // plain, with a state, with a state and positions
      const at::Tensor positions = variant == 2 ? mixed_positions(c.batch, c.length) : at::Tensor();
      const Tensors in = inputs(c.batch, c.channels, c.length, c.states, variant > 0);
      const Tensors cotangents = random_like(plain(positions)(in));
      const auto label = ::testing::PrintToString(std::make_tuple(c.batch, c.channels, c.length, c.states, variant));
      const Evaluation exact = evaluate(plain(positions), in, cotangents), mine = run(in, positions, cotangents);
      expect_close(mine.outputs, exact.outputs, 1e-12, "double outputs " + label);
      expect_close(mine.gradients, exact.gradients, 1e-11, "double gradients " + label);
      const Tensors in_float = cast(in, at::kFloat), cotangents_float = cast(cotangents, at::kFloat);
      const Evaluation rounded =
          evaluate(plain(positions), cast(in_float, at::kDouble), cast(cotangents_float, at::kDouble));
      const Evaluation loops = evaluate(plain(positions), in_float, cotangents_float);
      const Evaluation fast = run(in_float, positions, cotangents_float);
      expect_lawful(fast.outputs, loops.outputs, rounded.outputs, 2, "float outputs " + label);
      expect_lawful(fast.gradients, loops.gradients, rounded.gradients, 3, "float gradients " + label);
      for (size_t i = 0; i < exact.gradients.size(); ++i) {
        worst[0] = std::max(worst[0], relative_error(mine.gradients[i], exact.gradients[i]));
        worst[1] = std::max(worst[1], relative_error(fast.gradients[i], rounded.gradients[i]));
      }
    }
  }
  RecordProperty("worst_relative_error_of_gradients", ::testing::PrintToString(worst));
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
    for (size_t i = 1; i < in.size(); ++i) expect_same_bits({rough.gradients[i]}, {fine.gradients[i]}, "gradient");
  }
}

TEST(DiagonalScanCuda, LayoutsAndEmptyInputs) {
  const Tensors in = inputs(3, 18, 11, 4, true);
  const Tensors cotangents = random_like(plain({})(in));
  Tensors strided = in;
  strided[0] = in[0].contiguous();
  strided[1] = in[1].t().contiguous().t();
  const Evaluation a = run(in, {}, cotangents);
  expect_same_bits(run(strided, {}, cotangents).gradients, a.gradients, "strided");
  strided[0] = at::cat({in[0], in[0]}, 2).transpose(1, 2).contiguous().transpose(1, 2).slice(2, 11, 22);
  expect_same_bits(run(strided, {}, cotangents).outputs, a.outputs, "part of a longer row");
  EXPECT_TRUE(a.outputs[0].transpose(1, 2).is_contiguous());
  Tensors none = in;
  none[0] = in[0].slice(2, 0, 0);
  const Evaluation still = run(none, {}, {cotangents[0].slice(2, 0, 0), cotangents[1]});
  expect_same_bits({still.outputs[1], still.gradients[7]}, {in[7], cotangents[1]}, "no token");
  EXPECT_EQ(rms(still.gradients[1]), 0.0);
  none[0] = in[0].slice(0, 0, 0);
  none[7] = in[7].slice(0, 0, 0);
  const Evaluation nobody = run(none, {}, {cotangents[0].slice(0, 0, 0), cotangents[1].slice(0, 0, 0)});
  EXPECT_EQ(nobody.outputs[0].sizes(), none[0].sizes());
  EXPECT_EQ(rms(nobody.gradients[1]), 0.0);
  // What stands at padding is not read into anything.
  const at::Tensor positions = mixed_positions(3, 11);
  Tensors poisoned = in;
  poisoned[0] = in[0].masked_fill(positions.lt(0).unsqueeze(1), std::numeric_limits<double>::quiet_NaN());
  expect_same_bits(run(poisoned, positions, cotangents).gradients, run(in, positions, cotangents).gradients, "padding");
  EXPECT_THROW(diagonal_scan_op::cuda_forward(in[0], {in[1], in[2], in[3], in[4], in[5], in[6]}, {}, {}, true,
                                              emulated<cuda::Order::kForwards>()),
               c10::Error);
}

TEST(DiagonalScanCuda, SegmentsAndOffsets) {
  EXPECT_EQ(diagonal_scan_segments(1, 256, 1023).count, 1);    // short
  EXPECT_EQ(diagonal_scan_segments(17, 256, 65536).count, 1);  // 136 blocks as it is
  const DiagonalScanSegments cut = diagonal_scan_segments(1, 256, 65536);
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
