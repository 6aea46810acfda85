#include "architectures/recurrent/gru_scan/gru_scan.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/gru.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <tuple>
#include <utility>

#include "architectures/recurrent/gru_scan/reference.h"
#include "tests/architectures/recurrent/sequence_checks.h"

namespace hippodrome {
namespace gru_scan_test {
namespace {

using namespace scan_checks;

// Inputs are gates, weight_hh, bias_hn and, with a state, h0.
Op op(bool reference, at::Tensor positions = {}) {
  return [=](const Tensors& in) -> Tensors {
    auto [y, h] = gru_scan(in[0], in[1], in[2], in.size() > 3 ? in[3] : at::Tensor(), positions, reference);
    return {y, h};
  };
}

Tensors inputs(int64_t batch, int64_t length, int64_t hidden, bool state = true, at::ScalarType dtype = at::kDouble) {
  seed();
  Tensors in{at::randn({batch, length, 3 * hidden}, at::kDouble),
             at::randn({3 * hidden, hidden}, at::kDouble).div(std::sqrt(static_cast<double>(hidden))),
             at::randn({hidden}, at::kDouble)};
  if (state) in.push_back(at::randn({batch, hidden}, at::kDouble));
  return cast(in, dtype);
}

const PositionedOp kFused = [](at::Tensor positions) { return op(false, std::move(positions)); };

TEST(GruScan, FusedMatchesReference) {
  for (const int64_t length : {1, 2, 3, 64, 65, 130}) {
    for (const int64_t hidden : {1, 3, 16, 17, 40, 128}) {
      for (const int64_t batch : {1, 2, 5}) {
        for (const int variant : {0, 1, 2}) {  // plain, with a state, with a state and positions
          if (hidden == 128 && length > 65 && variant == 1) continue;
          const at::Tensor positions = variant == 2 ? mixed_positions(batch, length) : at::Tensor();
          const Tensors in = inputs(batch, length, hidden, variant > 0);
          const auto label = ::testing::PrintToString(std::make_tuple(batch, length, hidden, variant));
          expect_fused_matches(op(false, positions), op(true, positions), in, label);
        }
      }
    }
  }
}

TEST(GruScan, EqualsLibTorch) {
  const int64_t batch = 3, length = 19, width = 7, hidden = 24;
  seed();
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    const Tensors in =
        cast({at::randn({batch, length, width}, at::kDouble), at::randn({3 * hidden, width}, at::kDouble),
              at::randn({3 * hidden, hidden}, at::kDouble).div(5), at::randn({3 * hidden}, at::kDouble),
              at::randn({3 * hidden}, at::kDouble), at::randn({batch, hidden}, at::kDouble)},
             dtype);
    const Op ours = [&](const Tensors& t) -> Tensors {
      // b_hr and b_hz belong to the projection, b_hn to the recurrence.
      const at::Tensor bias_hn = t[4].slice(0, 2 * hidden, 3 * hidden);
      const at::Tensor bias = t[3].add(at::cat({t[4].slice(0, 0, 2 * hidden), at::zeros_like(bias_hn)}));
      auto [y, h] = gru_scan(at::linear(t[0], t[1], bias), t[2], bias_hn, t[5]);
      return {y, h};
    };
    const Op theirs = [&](const Tensors& t) -> Tensors {
      const Tensors weights{t[1], t[2], t[3], t[4]};
      auto [y, h] = at::gru(t[0], t[5].unsqueeze(0), weights, true, 1, 0.0, true, false, true);
      return {y, h.squeeze(0)};
    };
    const Tensors cotangents = random_like(ours(in));
    const Evaluation a = evaluate(ours, in, cotangents), b = evaluate(theirs, in, cotangents);
    const double tolerance = dtype == at::kFloat ? 3e-6 : 1e-13;
    expect_close(a.outputs, b.outputs, tolerance, "outputs");
    expect_close(a.gradients, b.gradients, tolerance, "gradients");
  }
}

TEST(GruScan, GradientsMatchFiniteDifferences) {
  expect_gradients_match_differences(op(false), inputs(2, 9, 5));
  expect_gradients_match_differences(op(false, mixed_positions(3, 12)), inputs(3, 12, 17));
  expect_gradients_match_differences(op(true, mixed_positions(3, 12)), inputs(3, 12, 17));
}

TEST(GruScan, AnyCutWithCarriedStateEqualsTheWhole) {
  expect_any_cut_equals_the_whole(kFused, inputs(3, 21, 20), 1, 3);
}

TEST(GruScan, PaddingAndPackingChangeNothing) {
  expect_padding_and_packing_change_nothing(kFused, inputs(1, 12, 20, false), 1);
  expect_rows_as_alone(op(false), inputs(7, 30, 40), {0, 3});
}

TEST(GruScan, SameBitsForAnyThreadsAndRuns) {
  for (const int64_t hidden : {33, 128}) {
    expect_same_bits_for_any_threads(op(false, mixed_positions(13, 70)), inputs(13, 70, hidden, true, at::kFloat));
  }
}

TEST(GruScan, TwoByteTypesKeepTheirStateInFloat32) {
  for (const auto dtype : {at::kBFloat16, at::kHalf})
    expect_float_states(op(false), inputs(2, 40, 32, true, dtype), 4e-3);
}

TEST(GruScan, StridedInputsAndUnneededGradients) {
  const Tensors in = inputs(3, 11, 18);
  const Tensors strided{in[0].transpose(0, 1).contiguous().transpose(0, 1), in[1].t().contiguous().t(), in[2], in[3]};
  expect_same_bits(op(false)(in), op(false)(strided), "strided");
  // Only y is used and only the weight is trained.
  const at::Tensor weight = in[1].detach().set_requires_grad(true);
  const Tensors gradient = torch::autograd::grad({std::get<0>(gru_scan(in[0], weight, in[2])).sum()}, {weight});
  EXPECT_GT(rms(gradient[0]), 0.0);
}

TEST(GruScan, DoubleBackwardRaises) {
  const Tensors in = inputs(1, 4, 3, false);
  for (const bool reference : {false, true}) {
    const at::Tensor gates = in[0].detach().set_requires_grad(true);
    const Tensors first =
        torch::autograd::grad({op(reference)({gates, in[1], in[2]})[0].square().sum()}, {gates}, {}, true, true);
    EXPECT_THROW(torch::autograd::grad({first[0].sum()}, {gates}), c10::Error);
  }
}

TEST(GruScan, MetaTensorsHaveTheShapesOfTheResult) {
  const auto meta = at::TensorOptions().device(at::kMeta).dtype(at::kFloat);
  for (const bool reference : {false, true}) {
    const at::Tensor gates = at::empty({2, 5, 9}, meta).set_requires_grad(true);
    const Tensors out = op(reference)({gates, at::empty({9, 3}, meta), at::empty({3}, meta)});
    EXPECT_EQ(out[0].sizes(), at::IntArrayRef({2, 5, 3}));
    EXPECT_EQ(out[1].sizes(), at::IntArrayRef({2, 3}));
    EXPECT_EQ(torch::autograd::grad({out[0].sum()}, {gates})[0].sizes(), gates.sizes());
  }
}

TEST(GruScan, ReferenceCountsItsOperations) {
  const int64_t batch = 2, length = 3, hidden = 5;
  std::vector<Counted> gates(batch * length * 3 * hidden), weight(3 * hidden * hidden), bias(hidden);
  std::vector<Counted> y(batch * length * hidden), h(batch * hidden);
  Counted::operations = 0;
  gru_scan_forward_reference(GruScanForward<Counted>{batch, length, hidden, gates.data(), weight.data(), nullptr,
                                                     bias.data(), nullptr, nullptr, y.data(), h.data(), nullptr,
                                                     nullptr});
  // A unit: three products over H; two sigmoids of 3 operations and a sum, q, n of 3, and 4 to combine them.
  EXPECT_EQ(Counted::operations, batch * length * hidden * (6 * hidden + 2 * 4 + 1 + 3 + 4));
}

TEST(GruScan, WrongShapesAreNamed) {
  const Tensors in = inputs(2, 4, 3);
  EXPECT_THROW(gru_scan(in[0].slice(2, 0, 8), in[1], in[2]), c10::Error);
  EXPECT_THROW(gru_scan(in[0], in[1], in[2].slice(0, 0, 2)), c10::Error);
  EXPECT_THROW(gru_scan(in[0], in[1], in[2], in[3].slice(0, 0, 1)), c10::Error);
  EXPECT_THROW(gru_scan(in[0], in[1], in[2], {}, at::zeros({2, 3}, at::kLong)), c10::Error);
  EXPECT_THROW(gru_scan(in[0], in[1].to(at::kFloat), in[2]), c10::Error);
  const Tensors empty = op(false)({in[0].slice(1, 0, 0), in[1], in[2], in[3]});
  expect_same_bits({empty[1]}, {in[3]}, "no token, same state");
}

}  // namespace
}  // namespace gru_scan_test
}  // namespace hippodrome
