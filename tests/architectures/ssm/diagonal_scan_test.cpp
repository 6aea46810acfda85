#include "architectures/ssm/diagonal_scan/diagonal_scan.h"

#include <ATen/ops/rand.h>
#include <ATen/ops/zeros.h>

#include <complex>
#include <numbers>
#include <tuple>
#include <utility>

#include "architectures/ssm/diagonal_scan/reference.h"
#include "tests/architectures/recurrent/sequence_checks.h"
#include "tests/architectures/ssm/mode_scan_checks.h"

namespace hippodrome {
namespace diagonal_scan_test {
namespace {

using namespace mode_scan_checks;

// Inputs are u, the six parameters and, where there is one, the state.
Op op(bool reference, at::Tensor positions = {}) {
  return [=](const Tensors& in) -> Tensors {
    auto [y, state] = diagonal_scan(in[0], in[1], in[2], in[3], in[4], in[5], in[6],
                                    in.size() > 7 ? in[7] : at::Tensor(), positions, reference);
    return {y, state};
  };
}

// |a| between 0.75 and 0.999, so that states neither explode nor vanish.
Tensors inputs(int64_t batch, int64_t channels, int64_t length, int64_t states, bool state = true,
               at::ScalarType dtype = at::kDouble) {
  seed();
  const auto normal = [&] { return at::randn({channels, states}, at::kDouble); };
  const at::Tensor radius = at::rand({channels, states}, at::kDouble).mul(0.249).add(0.75);
  const at::Tensor angle = at::rand({channels, states}, at::kDouble).mul(3.0);
  Tensors in{at::randn({batch, length, channels}, at::kDouble),
             radius.mul(angle.cos()),
             radius.mul(angle.sin()),
             normal(),
             normal(),
             normal(),
             normal()};
  if (state) in.push_back(at::randn({batch, channels, states, 2}, at::kDouble));
  in = cast(in, dtype);
  in[0] = in[0].transpose(1, 2);
  return in;
}

const PositionedOp kFused = [](at::Tensor positions) { return op(false, std::move(positions)); };

TEST(DiagonalScan, FusedMatchesReference) {
  for (const int64_t length : {1, 2, 3, 64, 65, 130}) {
    for (const auto& [channels, states] :
         std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {3, 4}, {16, 2}, {17, 3}, {40, 5}, {16, 32}, {2, 256}}) {
      for (const int64_t batch : {1, 2, 5}) {
        for (const int variant : {0, 1, 2}) {  // plain, with a state, with a state and positions
          const at::Tensor positions = variant == 2 ? mixed_positions(batch, length) : at::Tensor();
          const Tensors in = inputs(batch, channels, length, states, variant > 0);
          const auto label = ::testing::PrintToString(std::make_tuple(batch, channels, length, states, variant));
          expect_fused_matches(op(false, positions), op(true, positions), in, label);
        }
      }
    }
  }
}

// S4D-Lin, N = 4 (two conjugate pairs), B = C = 1, step 0.1: the kernel is the response to an impulse.
TEST(DiagonalScan, ImpulseResponseIsTheGoldenKernelOfS4DLin) {
  const double step = 0.1;
  const std::vector<double> zoh{0.38701121, 0.35034119, 0.30098495, 0.24402016, 0.18480892, 0.12845668};
  const std::vector<double> bilinear{0.3857666, 0.34987723, 0.3014449, 0.2453625, 0.18682839, 0.13082682};
  for (const bool use_zoh : {true, false}) {
    Tensors in{at::zeros({1, 1, 6}, at::kDouble)};
    for (int i = 0; i < 6; ++i) in.push_back(at::zeros({1, 2}, at::kDouble));
    in[0].mutable_data_ptr<double>()[0] = 1.0;
    for (int n = 0; n < 2; ++n) {
      const std::complex<double> A(-0.5, std::numbers::pi * n);
      const std::complex<double> half = A * (step / 2);
      const std::complex<double> a = use_zoh ? std::exp(A * step) : (1.0 + half) / (1.0 - half);
      const std::complex<double> b = use_zoh ? (std::exp(A * step) - 1.0) / A : step / (1.0 - half);
      in[1].mutable_data_ptr<double>()[n] = a.real();
      in[2].mutable_data_ptr<double>()[n] = a.imag();
      in[3].mutable_data_ptr<double>()[n] = b.real();
      in[4].mutable_data_ptr<double>()[n] = b.imag();
      in[5].mutable_data_ptr<double>()[n] = 1.0;
    }
    for (const bool reference : {false, true}) {
      for (const auto dtype : {at::kDouble, at::kFloat}) {
        const at::Tensor y = op(reference)(cast(in, dtype))[0].to(at::kDouble).flatten();
        for (int64_t t = 0; t < 6; ++t) {
          EXPECT_NEAR(y[t].item<double>(), (use_zoh ? zoh : bilinear)[t], dtype == at::kDouble ? 1e-8 : 1e-6) << t;
        }
      }
    }
  }
}

TEST(DiagonalScan, GradientsMatchFiniteDifferences) {
  expect_gradients_match_differences(op(false), inputs(2, 5, 9, 3));
  expect_gradients_match_differences(op(false, mixed_positions(3, 70)), inputs(3, 17, 70, 5));
  expect_gradients_match_differences(op(true, mixed_positions(3, 70)), inputs(3, 17, 70, 5));
}

TEST(DiagonalScan, GradientsOfEitherOutput) {
  for (const bool reference : {false, true}) expect_gradients_of_either_output(op(reference), inputs(2, 5, 9, 3));
}

TEST(DiagonalScan, AnyCutWithCarriedStateEqualsTheWhole) {
  expect_any_cut_equals_the_whole(kFused, inputs(3, 18, 71, 5), 2, 7);
}

TEST(DiagonalScan, TokenByTokenEqualsTheWhole) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    expect_steps_equal_the_whole(kFused, inputs(2, 19, 40, 37, true, dtype), 2, 7);
  }
}

TEST(DiagonalScan, PaddingAndPackingChangeNothing) {
  expect_padding_and_packing_change_nothing(kFused, inputs(1, 20, 12, 6, false), 2);
  expect_rows_as_alone(op(false), inputs(4, 20, 30, 6), {0, 7});
}

TEST(DiagonalScan, SameBitsForAnyThreadsAndRuns) {
  expect_same_bits_for_any_threads(op(false, mixed_positions(5, 130)), inputs(5, 70, 130, 9, true, at::kFloat));
}

TEST(DiagonalScan, Bfloat16KeepsItsStateInFloat32) {
  expect_float_states(op(false), inputs(2, 20, 40, 6, true, at::kBFloat16), 4e-3);
}

TEST(DiagonalScan, LayoutsOfInputAndOutput) { expect_any_layout(op(false), inputs(3, 18, 11, 4)); }

TEST(DiagonalScan, DoubleBackwardRaises) { expect_double_backward_raises(op, inputs(1, 4, 3, 2)); }

TEST(DiagonalScan, MetaTensorsHaveTheShapesOfTheResult) {
  const auto meta = at::TensorOptions().device(at::kMeta).dtype(at::kFloat);
  Tensors in{at::empty({2, 5, 7}, meta)};
  for (int i = 0; i < 6; ++i) in.push_back(at::empty({5, 3}, meta));
  expect_shapes_of_meta_tensors(op, in, 3);
}

TEST(DiagonalScan, ReferenceCountsItsOperations) {
  const int64_t batch = 2, channels = 3, length = 4, states = 5;
  std::vector<Counted> u(batch * length * channels), parameter(channels * states), y(u.size());
  std::vector<Counted> state(batch * channels * states * 2);
  const Counted* p = parameter.data();
  Counted::operations = 0;
  diagonal_scan_forward_reference(DiagonalScanForward<Counted>{batch,
                                                               channels,
                                                               length,
                                                               states,
                                                               u.data(),
                                                               {p, p, p, p, p, p},
                                                               nullptr,
                                                               nullptr,
                                                               y.data(),
                                                               state.data(),
                                                               nullptr});
  EXPECT_EQ(Counted::operations, batch * channels * length * (states * 14 + 1));
}

TEST(DiagonalScan, WrongShapesAreNamed) {
  const Tensors good = inputs(2, 3, 4, 5);
  for (size_t i = 1; i < good.size(); ++i) {
    Tensors bad = good;
    bad[i] = good[i].slice(i == 7 ? 2 : 1, 0, 4);
    EXPECT_THROW(op(false)(bad), c10::Error) << i;
  }
  EXPECT_THROW(op(false, at::zeros({2, 3}, at::kLong))(good), c10::Error);
  Tensors empty = good;
  empty[0] = good[0].slice(2, 0, 0);
  expect_same_bits({op(false)(empty)[1]}, {good[7]}, "no token, same state");
}

}  // namespace
}  // namespace diagonal_scan_test
}  // namespace hippodrome
