// The CUDA kernels of the diagonal-plus-low-rank scan, run on the CPU (core/cuda/emulator.h) through their binding.
#include <ATen/ops/rand.h>
#include <ATen/ops/stack.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <tuple>

#include "architectures/ssm/dplr_scan/cuda_binding.h"
#include "architectures/ssm/dplr_scan/cuda_kernels.h"
#include "architectures/ssm/dplr_scan/dplr_scan.h"
#include "core/cuda/emulator.h"
#include "tests/architectures/recurrent/scan_checks.h"

namespace hippodrome {
namespace dplr_scan_cuda_test {
namespace {

using namespace scan_checks;
using dplr_scan_op::CudaKernels;
using dplr_scan_op::Parameters;

template <cuda::Order kOrder>
CudaKernels emulated() {
  return {
      [](const DplrScanForwardCuda& p, void*) { return run_dplr_scan_forward(p, cuda::EmulatedLauncher{kOrder}); },
      [](const DplrScanBackwardCuda& p, void*) { return run_dplr_scan_backward(p, cuda::EmulatedLauncher{kOrder}); }};
}

// u [B, D, L], a, b, c, q, w, and the state where there is one.
Evaluation run(const Tensors& in, const at::Tensor& positions, const Tensors& cotangents,
               const CudaKernels& kernels = emulated<cuda::Order::kForwards>()) {
  const Parameters parameters{in[1], in[2], in[3], in[4], in[5]};
  const OptionalTensor state = in.size() > 6 ? OptionalTensor(in[6]) : std::nullopt;
  const OptionalTensor at = if_defined(positions);
  const auto [y, last_state, readouts] = dplr_scan_op::cuda_forward(in[0], parameters, state, at, true, false, kernels);
  const auto unsaved = dplr_scan_op::cuda_forward(in[0], parameters, state, at, false, false, kernels);
  expect_same_bits({std::get<0>(unsaved), std::get<1>(unsaved)}, {y, last_state}, "nothing kept");
  const auto gradients =
      dplr_scan_op::cuda_backward(cotangents[0], cotangents[1], in[0], parameters, state, readouts, at, false, kernels);
  Evaluation e{{y, last_state}, {}};
  std::apply([&](const auto&... g) { (e.gradients.push_back(g), ...); }, gradients);
  e.gradients.resize(in.size());
  return e;
}

Op plain(at::Tensor positions) {
  return [=](const Tensors& in) -> Tensors {
    auto [y, state] =
        dplr_scan(in[0], in[1], in[2], in[3], in[4], in[5], in.size() > 6 ? in[6] : at::Tensor(), positions, true);
    return {y, state};
  };
}

// |a| up to 0.9 and a low rank of norm below 0.1, so that states neither explode nor vanish.
Tensors inputs(int64_t batch, int64_t channels, int64_t length, int64_t states, int64_t rank, bool state) {
  seed();
  const at::Tensor radius = at::rand({channels, states}, at::kDouble).mul(0.4).add(0.5);
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
// Lengths below, at and above a tile of 32 tokens; states of one lane, 8 threads, a warp and a block.
const std::vector<Case> kCases = {{1, 1, 1, 1, 1},    {3, 3, 31, 4, 2},   {1, 8, 32, 32, 1},
                                  {2, 9, 33, 31, 2},  {2, 5, 40, 33, 1},  {1, 4, 65, 128, 2},
                                  {2, 1, 34, 129, 1}, {1, 2, 33, 300, 2}, {3, 17, 70, 5, 1}};

TEST(DplrScanCuda, EqualsTheReference) {
  double worst[2] = {0.0, 0.0};
  for (const Case& c : kCases) {
    for (const int variant : {0, 1, 2}) {  // plain, with a state, with a state and positions
      const at::Tensor positions = variant == 2 ? mixed_positions(c.batch, c.length) : at::Tensor();
      const Tensors in = inputs(c.batch, c.channels, c.length, c.states, c.rank, variant > 0);
      const Tensors cotangents = random_like(plain(positions)(in));
      const auto label =
          ::testing::PrintToString(std::make_tuple(c.batch, c.channels, c.length, c.states, c.rank, variant));
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

TEST(DplrScanCuda, SameBitsInAnyOrderOfThreadsAndBlocks) {
  for (const int64_t states : {9, 40, 150}) {
    const Tensors in = cast(inputs(2, 10, 45, states, 2, true), at::kFloat);
    const at::Tensor positions = mixed_positions(2, 45);
    const Tensors cotangents = random_like(plain(positions)(in));
    const Evaluation a = run(in, positions, cotangents),
                     b = run(in, positions, cotangents, emulated<cuda::Order::kBackwards>());
    expect_same_bits(a.outputs, b.outputs, "outputs");
    expect_same_bits(a.gradients, b.gradients, "gradients");
  }
}

TEST(DplrScanCuda, Bfloat16KeepsItsStateInFloat32) {
  const Tensors in = cast(inputs(2, 10, 40, 6, 1, true), at::kBFloat16);
  const Tensors cotangents = random_like(plain({})(in));
  const Evaluation rough = run(in, {}, cotangents), fine = run(cast(in, at::kFloat), {}, cast(cotangents, at::kFloat));
  EXPECT_EQ(rough.outputs[0].scalar_type(), at::kBFloat16);
  EXPECT_TRUE(rough.outputs[0].equal(fine.outputs[0].to(at::kBFloat16)));
  expect_same_bits({rough.outputs[1]}, {fine.outputs[1]}, "state");
  expect_same_bits(rough.gradients, fine.gradients, "gradients");
}

TEST(DplrScanCuda, LayoutsAndEmptyInputs) {
  const Tensors in = inputs(3, 18, 11, 4, 1, true);
  const Tensors cotangents = random_like(plain({})(in));
  Tensors strided = in;
  strided[0] = in[0].contiguous();
  strided[1] = in[1].transpose(0, 1).contiguous().transpose(0, 1);
  const Evaluation a = run(in, {}, cotangents);
  expect_same_bits(run(strided, {}, cotangents).gradients, a.gradients, "strided");
  EXPECT_TRUE(a.outputs[0].transpose(1, 2).is_contiguous());
  Tensors none = in;
  none[0] = in[0].slice(2, 0, 0);
  const Evaluation still = run(none, {}, {cotangents[0].slice(2, 0, 0), cotangents[1]});
  expect_same_bits({still.outputs[1], still.gradients[6]}, {in[6], cotangents[1]}, "no token");
  for (size_t i = 1; i < 6; ++i) EXPECT_EQ(rms(still.gradients[i]), 0.0) << i;
  none[0] = in[0].slice(0, 0, 0);
  none[6] = in[6].slice(0, 0, 0);
  const Evaluation nobody = run(none, {}, {cotangents[0].slice(0, 0, 0), cotangents[1].slice(0, 0, 0)});
  EXPECT_EQ(nobody.outputs[0].sizes(), none[0].sizes());
  EXPECT_EQ(rms(nobody.gradients[1]), 0.0);
  // What stands at padding is not read into anything.
  const at::Tensor positions = mixed_positions(3, 11);
  Tensors poisoned = in;
  poisoned[0] = in[0].masked_fill(positions.lt(0).unsqueeze(1), std::numeric_limits<double>::quiet_NaN());
  expect_same_bits(run(poisoned, positions, cotangents).gradients, run(in, positions, cotangents).gradients, "padding");
  const auto kernels = emulated<cuda::Order::kForwards>();
  const auto forward = [&](const Tensors& t, bool reference) {
    dplr_scan_op::cuda_forward(t[0], {t[1], t[2], t[3], t[4], t[5]}, {}, {}, false, reference, kernels);
  };
  EXPECT_THROW(forward(in, true), c10::Error);
  EXPECT_THROW(forward(inputs(1, 1, 1, 513, 1, false), false), c10::Error);
}

TEST(DplrScanCuda, OffsetsPassTwoToTheThirtyOne) {
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
