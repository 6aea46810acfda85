#include "architectures/ssm/causal_fir/causal_fir.h"

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/zeros.h>
#include <hwy/targets.h>

#include <tuple>
#include <utility>

#include "architectures/ssm/causal_fir/reference.h"
#include "tests/architectures/recurrent/sequence_checks.h"

namespace hippodrome {
namespace causal_fir_test {
namespace {

using namespace scan_checks;

// Inputs are x, the taps and, where there is one, the state.
Op op(bool reference, at::Tensor positions = {}) {
  return [=](const Tensors& in) -> Tensors {
    auto [y, state] = causal_fir(in[0], in[1], in.size() > 2 ? in[2] : at::Tensor(), positions, reference);
    return {y, state};
  };
}

Tensors inputs(int64_t batch, int64_t channels, int64_t length, int64_t taps, bool state = true,
               at::ScalarType dtype = at::kDouble) {
  seed();
  Tensors in{at::randn({batch, length, channels}, at::kDouble), at::randn({taps, channels}, at::kDouble)};
  if (state) in.push_back(at::randn({batch, taps, channels}, at::kDouble));
  return cast(in, dtype);
}

const PositionedOp kFused = [](at::Tensor positions) { return op(false, std::move(positions)); };

TEST(CausalFir, IsLibTorchsConvolutionWithLeftZeros) {
  for (const int64_t taps : {1, 2, 7, 8, 64, 65}) {
    const int64_t channels = 20, length = 90;
    const Tensors in = inputs(2, channels, length, taps, false);
    const at::Tensor padded = at::constant_pad_nd(in[0].transpose(1, 2), {taps - 1, 0});
    const at::Tensor kernel = in[1].flip(0).t().unsqueeze(1);  // oldest first
    const at::Tensor expected =
        at::conv1d(padded, kernel, {}, at::IntArrayRef{1}, at::IntArrayRef{0}, at::IntArrayRef{1}, channels);
    for (const bool reference : {false, true}) {
      const Tensors out = op(reference)(in);
      expect_close({out[0]}, {expected.transpose(1, 2)}, 1e-13, "taps " + std::to_string(taps));
      EXPECT_TRUE(out[1].equal(in[0].slice(1, length - taps))) << taps;
    }
  }
}

TEST(CausalFir, FusedMatchesReference) {
  for (const int64_t length : {1, 2, 7, 8, 9, 64, 130, 300}) {
    for (const auto& [channels, taps] :
         std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {3, 5}, {16, 8}, {17, 9}, {40, 64}, {5, 300}}) {
      for (const int64_t batch : {1, 3}) {
        for (const int variant : {0, 1, 2}) {  // plain, with a state, with a state and positions
          const at::Tensor positions = variant == 2 ? mixed_positions(batch, length) : at::Tensor();
          const Tensors in = inputs(batch, channels, length, taps, variant > 0);
          const auto label = ::testing::PrintToString(std::make_tuple(batch, channels, length, taps, variant));
          expect_fused_matches(op(false, positions), op(true, positions), in, label);
        }
      }
    }
  }
}

TEST(CausalFir, EveryInstructionSetAgrees) {
  const at::Tensor positions = mixed_positions(2, 270);
  const Tensors in = inputs(2, 21, 270, 37), step = inputs(2, 70, 1, 37);
  const Tensors cotangents = random_like(op(true, positions)(in));
  const Evaluation exact = evaluate(op(true, positions), in, cotangents);
  const Tensors exact_step = op(true)(step);
  for (int64_t target : {int64_t{HWY_AVX3}, int64_t{HWY_AVX2}, int64_t{0}}) {  // 0: portable code
    if ((hwy::SupportedTargets() & target) != target) continue;
    hwy::GetChosenTarget().Update(target);
    const Evaluation fused = evaluate(op(false, positions), in, cotangents);
    expect_close(fused.outputs, exact.outputs, 1e-13, "outputs");
    expect_close(fused.gradients, exact.gradients, 1e-12, "gradients");
    expect_close(op(false)(step), exact_step, 1e-13, "step");
  }
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

TEST(CausalFir, GradientsMatchFiniteDifferences) {
  expect_gradients_match_differences(op(false), inputs(2, 5, 9, 4));
  expect_gradients_match_differences(op(false, mixed_positions(3, 70)), inputs(3, 17, 70, 21));
  expect_gradients_match_differences(op(true, mixed_positions(3, 70)), inputs(3, 17, 70, 21));
}

TEST(CausalFir, AnyCutWithCarriedStateEqualsTheWhole) {
  expect_any_cut_equals_the_whole(kFused, inputs(3, 18, 40, 13), 1, 2);
}

TEST(CausalFir, TokenByTokenEqualsTheWhole) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    expect_steps_equal_the_whole(kFused, inputs(2, 83, 40, 37, true, dtype), 1, 2);
  }
}

TEST(CausalFir, PaddingAndPackingChangeNothing) {
  expect_padding_and_packing_change_nothing(kFused, inputs(1, 20, 12, 6, false), 1);
}

TEST(CausalFir, SameBitsForAnyThreadsAndRuns) {
  expect_same_bits_for_any_threads(op(false, mixed_positions(5, 300)), inputs(5, 70, 300, 33, true, at::kFloat));
}

TEST(CausalFir, ReferenceCountsTwoOperationsATapAndToken) {
  const int64_t batch = 2, channels = 3, length = 5, taps = 4;
  std::vector<Counted> x(batch * length * channels), weight(taps * channels), y(x.size()),
      last(batch * taps * channels);
  Counted::operations = 0;
  causal_fir_forward_reference(CausalFirForward<Counted>{batch, channels, length, taps, x.data(), weight.data(),
                                                         nullptr, nullptr, y.data(), last.data()});
  EXPECT_EQ(Counted::operations, batch * channels * length * 2 * taps);
}

TEST(CausalFir, RefusesWhatDoesNotFit) {
  const Tensors in = inputs(2, 3, 4, 5);
  EXPECT_THROW(op(false)({in[0][0], in[1]}), c10::Error);
  EXPECT_THROW(op(false)({in[0], in[1].t()}), c10::Error);
  EXPECT_THROW(op(false)({in[0], in[1].to(at::kFloat)}), c10::Error);
  EXPECT_THROW(op(false)({in[0], in[1], in[2].slice(1, 1)}), c10::Error);
  EXPECT_THROW(op(false, at::zeros({2, 3}, at::kLong))({in[0], in[1]}), c10::Error);
  EXPECT_THROW(op(false)({in[0], at::zeros({0, 3}, at::kDouble)}), c10::Error);
}

}  // namespace
}  // namespace causal_fir_test
}  // namespace hippodrome
