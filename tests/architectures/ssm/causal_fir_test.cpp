#include "architectures/ssm/causal_fir/causal_fir.h"

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <hwy/targets.h>

#include <limits>
#include <tuple>

#include "architectures/ssm/causal_fir/reference.h"
#include "tests/architectures/recurrent/scan_checks.h"

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
          const Tensors cotangents = random_like(op(false, positions)(in));
          const auto label = ::testing::PrintToString(std::make_tuple(batch, channels, length, taps, variant));
          const Evaluation exact = evaluate(op(true, positions), in, cotangents);
          const Evaluation fused = evaluate(op(false, positions), in, cotangents);
          expect_close(fused.outputs, exact.outputs, 1e-13, "double outputs " + label);
          expect_close(fused.gradients, exact.gradients, 1e-12, "double gradients " + label);
          const Tensors in_float = cast(in, at::kFloat), cotangents_float = cast(cotangents, at::kFloat);
          const Evaluation rounded =
              evaluate(op(true, positions), cast(in_float, at::kDouble), cast(cotangents_float, at::kDouble));
          const Evaluation plain = evaluate(op(true, positions), in_float, cotangents_float);
          const Evaluation fast = evaluate(op(false, positions), in_float, cotangents_float);
          expect_lawful(fast.outputs, plain.outputs, rounded.outputs, 2, "float outputs " + label);
          expect_lawful(fast.gradients, plain.gradients, rounded.gradients, 3, "float gradients " + label);
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
  const int64_t length = 40;
  const at::Tensor positions = mixed_positions(3, length);
  for (const bool with_positions : {false, true}) {
    const auto part = [&](int64_t from, int64_t to) {
      return with_positions ? positions.slice(1, from, to) : at::Tensor();
    };
    const Tensors in = inputs(3, 18, length, 13);
    const Tensors cotangents = random_like(op(false)(in));
    const Evaluation whole = evaluate(op(false, part(0, length)), in, cotangents);
    for (int64_t cut = 0; cut <= length; ++cut) {
      const Op halves = [&](const Tensors& t) -> Tensors {
        const Tensors first = op(false, part(0, cut))({t[0].slice(1, 0, cut), t[1], t[2]});
        const Tensors second = op(false, part(cut, length))({t[0].slice(1, cut, length), t[1], first[1]});
        return {at::cat({first[0], second[0]}, 1), second[1]};
      };
      const Evaluation split = evaluate(halves, in, cotangents);
      expect_close(split.outputs, whole.outputs, 1e-13, "outputs cut at " + std::to_string(cut));
      expect_close(split.gradients, whole.gradients, 1e-12, "gradients cut at " + std::to_string(cut));
    }
  }
}

TEST(CausalFir, TokenByTokenEqualsTheWhole) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    const Tensors in = inputs(2, 83, 40, 37, true, dtype);
    const at::Tensor positions = mixed_positions(2, 40);
    const Tensors whole = op(false, positions)(in);
    Tensors steps;
    at::Tensor state = in[2];
    for (int64_t t = 0; t < 40; ++t) {
      const Tensors out = op(false, positions.slice(1, t, t + 1))({in[0].slice(1, t, t + 1), in[1], state});
      steps.push_back(out[0]);
      state = out[1];
    }
    expect_close({at::cat(steps, 1), state}, whole, dtype == at::kFloat ? 1e-6 : 1e-14, "steps");
  }
}

TEST(CausalFir, PaddingAndPackingChangeNothing) {
  const Tensors in = inputs(1, 20, 12, 6, false);
  const at::Tensor padding = at::full({1, 4, 20}, std::numeric_limits<double>::quiet_NaN(), at::kDouble);
  // Two sequences of 5 and 7 tokens in one row, padding (holding NaN) around and inside them.
  const at::Tensor positions =
      at::tensor({-1, -1, -1, -1, 0, 1, -1, -1, -1, -1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 6, -1, -1, -1, -1}, at::kLong)
          .unsqueeze(0);
  const Op separate = [&](const Tensors& t) -> Tensors {
    const Tensors out = op(false)({t[0].slice(1, 5, 12), t[1]});
    return {at::cat({op(false)({t[0].slice(1, 0, 5), t[1]})[0], out[0]}, 1), out[1]};
  };
  const Op together = [&](const Tensors& t) -> Tensors {
    const at::Tensor packed = at::cat({padding, t[0].slice(1, 0, 2), padding, t[0].slice(1, 2, 12), padding}, 1);
    const Tensors out = op(false, positions)({packed, t[1]});
    EXPECT_EQ(rms(out[0].slice(1, 0, 4)), 0.0);
    EXPECT_EQ(rms(out[0].slice(1, 6, 10)), 0.0);
    EXPECT_EQ(rms(out[0].slice(1, 20, 24)), 0.0);
    return {at::cat({out[0].slice(1, 4, 6), out[0].slice(1, 10, 20)}, 1), out[1]};
  };
  const Tensors cotangents = random_like(separate(in));
  const Evaluation a = evaluate(together, in, cotangents), b = evaluate(separate, in, cotangents);
  expect_close(a.outputs, b.outputs, 1e-13, "outputs");
  expect_close(a.gradients, b.gradients, 1e-12, "gradients");
}

TEST(CausalFir, SameBitsForAnyThreadsAndRuns) {
  const Tensors in = inputs(5, 70, 300, 33, true, at::kFloat);
  const auto run = op(false, mixed_positions(5, 300));
  const Tensors cotangents = random_like(run(in));
  Evaluation one, two;
  with_threads(1, [&] { one = evaluate(run, in, cotangents); });
  with_threads(2, [&] { two = evaluate(run, in, cotangents); });
  expect_same_bits(two.outputs, one.outputs, "outputs");
  expect_same_bits(two.gradients, one.gradients, "gradients");
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
