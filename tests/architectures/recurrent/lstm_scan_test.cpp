#include "architectures/recurrent/lstm_scan/lstm_scan.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/lstm.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <limits>
#include <tuple>
#include <utility>

#include "architectures/recurrent/lstm_scan/op.h"
#include "architectures/recurrent/lstm_scan/reference.h"
#include "tests/architectures/recurrent/sequence_checks.h"

namespace hippodrome {
namespace lstm_scan_test {
namespace {

using namespace scan_checks;

// Inputs are gates, weight_hh and, with a state, h0 and c0.
Op op(bool reference, at::Tensor positions = {}) {
  return [=](const Tensors& in) -> Tensors {
    const bool state = in.size() > 2;
    auto [y, h, c] =
        lstm_scan(in[0], in[1], state ? in[2] : at::Tensor(), state ? in[3] : at::Tensor(), positions, reference);
    return {y, h, c};
  };
}

Tensors inputs(int64_t batch, int64_t length, int64_t hidden, bool state = true, at::ScalarType dtype = at::kDouble) {
  seed();
  Tensors in{at::randn({batch, length, 4 * hidden}, at::kDouble),
             at::randn({4 * hidden, hidden}, at::kDouble).div(std::sqrt(static_cast<double>(hidden)))};
  if (state) {
    in.push_back(at::randn({batch, hidden}, at::kDouble));
    in.push_back(at::randn({batch, hidden}, at::kDouble));
  }
  return cast(in, dtype);
}

const PositionedOp kFused = [](at::Tensor positions) { return op(false, std::move(positions)); };

TEST(LstmScan, ActivationsAreAccurate) {
  const auto check = [](auto zero, double tolerance, double range) {
    using T = decltype(zero);
    std::vector<T> x;
    for (int i = -400000; i <= 400000; ++i) x.push_back(static_cast<T>(range * i / 400000.0));
    for (double tiny = 1e-30; tiny < 1; tiny *= 1.3) x.push_back(static_cast<T>(tiny));
    std::vector<T> sigmoid(x.size()), tanh(x.size());
    recurrent_activations(x.data(), static_cast<int64_t>(x.size()), sigmoid.data(), tanh.data());
    double worst_sigmoid = 0, worst_tanh = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const long double s = 1.0L / (1.0L + std::exp(-static_cast<long double>(x[i])));
      const long double t = std::tanh(static_cast<long double>(x[i]));
      worst_sigmoid = std::max(worst_sigmoid, static_cast<double>(std::abs(sigmoid[i] - s) / s));
      if (x[i] != 0) worst_tanh = std::max(worst_tanh, static_cast<double>(std::abs((tanh[i] - t) / t)));
    }
    EXPECT_LE(worst_sigmoid, tolerance);
    EXPECT_LE(worst_tanh, tolerance);
    ::testing::Test::RecordProperty("worst_sigmoid", std::to_string(worst_sigmoid * 1e9));
    ::testing::Test::RecordProperty("worst_tanh", std::to_string(worst_tanh * 1e9));
    // Beyond the range both saturate, zero is exact and keeps its sign, and what is not a number stays so.
    const T limit = std::numeric_limits<T>::infinity();
    const T edge[] = {-limit, limit, T(-1e4), T(1e4), T(0), std::numeric_limits<T>::quiet_NaN()};
    T s[6], t[6];
    recurrent_activations(edge, 6, s, t);
    EXPECT_LE(s[0], std::numeric_limits<T>::min() * 2);
    EXPECT_EQ(s[1], T(1));
    EXPECT_EQ(s[3], T(1));
    EXPECT_EQ(s[4], T(0.5));
    EXPECT_EQ(t[0], T(-1));
    EXPECT_EQ(t[1], T(1));
    EXPECT_EQ(t[2], T(-1));
    EXPECT_EQ(t[4], T(0));
    EXPECT_TRUE(std::isnan(s[5]) && std::isnan(t[5]));
  };
  check(0.0f, 3e-7, 86.0);
  check(0.0, 1e-15, 700.0);
}

TEST(LstmScan, FusedMatchesReference) {
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

TEST(LstmScan, EqualsLibTorch) {
  const int64_t batch = 3, length = 19, width = 7, hidden = 24;
  seed();
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    const Tensors in =
        cast({at::randn({batch, length, width}, at::kDouble), at::randn({4 * hidden, width}, at::kDouble),
              at::randn({4 * hidden, hidden}, at::kDouble).div(5), at::randn({4 * hidden}, at::kDouble),
              at::randn({batch, hidden}, at::kDouble), at::randn({batch, hidden}, at::kDouble)},
             dtype);
    const Op ours = [](const Tensors& t) -> Tensors {
      auto [y, h, c] = lstm_scan(at::linear(t[0], t[1], t[3]), t[2], t[4], t[5]);
      return {y, h, c};
    };
    const Op theirs = [&](const Tensors& t) -> Tensors {
      const Tensors state{t[4].unsqueeze(0), t[5].unsqueeze(0)};
      const Tensors weights{t[1], t[2], t[3], at::zeros_like(t[3])};
      auto [y, h, c] = at::lstm(t[0], state, weights, true, 1, 0.0, true, false, true);
      return {y, h.squeeze(0), c.squeeze(0)};
    };
    const Tensors cotangents = random_like(ours(in));
    const Evaluation a = evaluate(ours, in, cotangents), b = evaluate(theirs, in, cotangents);
    const double tolerance = dtype == at::kFloat ? 3e-6 : 1e-13;
    expect_close(a.outputs, b.outputs, tolerance, "outputs");
    expect_close(a.gradients, b.gradients, tolerance, "gradients");
  }
}

TEST(LstmScan, GradientsMatchFiniteDifferences) {
  expect_gradients_match_differences(op(false), inputs(2, 9, 5));
  expect_gradients_match_differences(op(false, mixed_positions(3, 12)), inputs(3, 12, 17));
  expect_gradients_match_differences(op(true, mixed_positions(3, 12)), inputs(3, 12, 17));
}

TEST(LstmScan, AnyCutWithCarriedStateEqualsTheWhole) {
  expect_any_cut_equals_the_whole(kFused, inputs(3, 21, 20), 1, 2);
}

TEST(LstmScan, PaddingAndPackingChangeNothing) {
  expect_padding_and_packing_change_nothing(kFused, inputs(1, 12, 20, false), 1);
  expect_rows_as_alone(op(false), inputs(7, 30, 40), {0, 2, 3});
}

TEST(LstmScan, SameBitsForAnyThreadsAndRuns) {
  for (const int64_t hidden : {33, 128}) {
    expect_same_bits_for_any_threads(op(false, mixed_positions(13, 70)), inputs(13, 70, hidden, true, at::kFloat));
  }
}

TEST(LstmScan, TwoByteTypesKeepTheirStateInFloat32) {
  for (const auto dtype : {at::kBFloat16, at::kHalf})
    expect_float_states(op(false), inputs(2, 40, 32, true, dtype), 4e-3);
}

TEST(LstmScan, StridedInputsAndUnneededGradients) {
  const Tensors in = inputs(3, 11, 18);
  const Tensors strided{in[0].transpose(0, 1).contiguous().transpose(0, 1), in[1].t().contiguous().t(), in[2], in[3]};
  expect_same_bits(op(false)(in), op(false)(strided), "strided");
  // Only y is used and only the weight is trained.
  const at::Tensor weight = in[1].detach().set_requires_grad(true);
  const Tensors gradient = torch::autograd::grad({std::get<0>(lstm_scan(in[0], weight)).sum()}, {weight});
  EXPECT_GT(rms(gradient[0]), 0.0);
}

TEST(LstmScan, DoubleBackwardRaises) {
  const Tensors in = inputs(1, 4, 3, false);
  for (const bool reference : {false, true}) {
    const at::Tensor gates = in[0].detach().set_requires_grad(true);
    const Tensors first =
        torch::autograd::grad({op(reference)({gates, in[1]})[0].square().sum()}, {gates}, {}, true, true);
    EXPECT_THROW(torch::autograd::grad({first[0].sum()}, {gates}), c10::Error);
  }
}

TEST(LstmScan, MetaTensorsHaveTheShapesOfTheResult) {
  const auto meta = at::TensorOptions().device(at::kMeta).dtype(at::kFloat);
  for (const bool reference : {false, true}) {
    const at::Tensor gates = at::empty({2, 5, 12}, meta).set_requires_grad(true);
    const Tensors out = op(reference)({gates, at::empty({12, 3}, meta)});
    EXPECT_EQ(out[0].sizes(), at::IntArrayRef({2, 5, 3}));
    EXPECT_EQ(out[1].sizes(), at::IntArrayRef({2, 3}));
    EXPECT_EQ(out[2].sizes(), at::IntArrayRef({2, 3}));
    EXPECT_EQ(torch::autograd::grad({out[0].sum()}, {gates})[0].sizes(), gates.sizes());
  }
}

TEST(LstmScan, ReferenceCountsItsOperations) {
  const int64_t batch = 2, length = 3, hidden = 5;
  std::vector<Counted> gates(batch * length * 4 * hidden), weight(4 * hidden * hidden), y(batch * length * hidden);
  std::vector<Counted> h(batch * hidden), c(batch * hidden);
  Counted::operations = 0;
  lstm_scan_forward_reference(LstmScanForward<Counted>{batch, length, hidden, gates.data(), weight.data(), nullptr,
                                                       nullptr, nullptr, nullptr, y.data(), h.data(), c.data(), nullptr,
                                                       nullptr});
  // A unit: four products over H; three sigmoids of 3 operations, two tanh, and 4 to combine them.
  EXPECT_EQ(Counted::operations, batch * length * hidden * (8 * hidden + 3 * 3 + 2 + 4));
}

TEST(LstmScan, WrongShapesAreNamed) {
  const Tensors in = inputs(2, 4, 3);
  EXPECT_THROW(lstm_scan(in[0].slice(2, 0, 11), in[1]), c10::Error);
  EXPECT_THROW(lstm_scan(in[0], in[1], in[2].slice(0, 0, 1)), c10::Error);
  EXPECT_THROW(lstm_scan(in[0], in[1], {}, {}, at::zeros({2, 3}, at::kLong)), c10::Error);
  EXPECT_THROW(lstm_scan(in[0], in[1].to(at::kFloat)), c10::Error);
  const Tensors empty = op(false)({in[0].slice(1, 0, 0), in[1], in[2], in[3]});
  expect_same_bits({empty[1], empty[2]}, {in[2], in[3]}, "no token, same state");
}

}  // namespace
}  // namespace lstm_scan_test
}  // namespace hippodrome
