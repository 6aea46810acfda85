#include "architectures/ssm/dplr_scan/dplr_scan.h"

#include <ATen/ops/rand.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <tuple>
#include <utility>

#include "architectures/ssm/dplr_scan/reference.h"
#include "tests/architectures/recurrent/sequence_checks.h"
#include "tests/architectures/ssm/mode_scan_checks.h"

namespace hippodrome {
namespace dplr_scan_test {
namespace {

using namespace mode_scan_checks;

// Inputs are u, a, b, c, q, w and, where there is one, the state.
Op op(bool reference, at::Tensor positions = {}) {
  return [=](const Tensors& in) -> Tensors {
    auto [y, state] =
        dplr_scan(in[0], in[1], in[2], in[3], in[4], in[5], in.size() > 6 ? in[6] : at::Tensor(), positions, reference);
    return {y, state};
  };
}

// |a| up to 0.9 and a low rank of norm below 0.1, so that states neither explode nor vanish.
Tensors inputs(int64_t batch, int64_t channels, int64_t length, int64_t states, int64_t rank, bool state = true,
               at::ScalarType dtype = at::kDouble) {
  seed();
  const at::Tensor radius = at::rand({channels, states}, at::kDouble).mul(0.4).add(0.5);
  const at::Tensor angle = at::rand({channels, states}, at::kDouble).mul(3.0);
  const auto normal = [&](at::IntArrayRef shape) { return at::randn(shape, at::kDouble); };
  const double small = 0.15 / std::sqrt(static_cast<double>(states * rank));
  Tensors in{normal({batch, length, channels}),
             at::stack({radius.mul(angle.cos()), radius.mul(angle.sin())}, -1),
             normal({channels, states, 2}),
             normal({channels, states, 2}),
             normal({channels, rank, states, 2}).mul(small),
             normal({channels, rank, states, 2}).mul(0.3)};
  if (state) in.push_back(normal({batch, channels, states, 2}));
  in = cast(in, dtype);
  in[0] = in[0].transpose(1, 2);
  return in;
}

const PositionedOp kFused = [](at::Tensor positions) { return op(false, std::move(positions)); };

TEST(DplrScan, FusedMatchesReference) {
  for (const int64_t length : {1, 2, 32, 33, 70}) {
    for (const auto& [channels, states, rank] : std::vector<std::tuple<int64_t, int64_t, int64_t>>{
             {1, 1, 1}, {3, 4, 2}, {16, 2, 1}, {17, 3, 2}, {40, 5, 1}, {2, 64, 2}}) {
      for (const int64_t batch : {1, 3}) {
        for (const int variant : {0, 1, 2}) {  // plain, with a state, with a state and positions
          const at::Tensor positions = variant == 2 ? mixed_positions(batch, length) : at::Tensor();
          const Tensors in = inputs(batch, channels, length, states, rank, variant > 0);
          const auto label = ::testing::PrintToString(std::make_tuple(batch, channels, length, states, rank, variant));
          expect_fused_matches(op(false, positions), op(true, positions), in, label);
        }
      }
    }
  }
}

TEST(DplrScan, GradientsMatchFiniteDifferences) {
  expect_gradients_match_differences(op(false), inputs(2, 5, 9, 3, 1));
  expect_gradients_match_differences(op(false, mixed_positions(3, 40)), inputs(3, 17, 40, 4, 2));
  expect_gradients_match_differences(op(true, mixed_positions(3, 40)), inputs(3, 17, 40, 4, 2));
}

TEST(DplrScan, GradientsOfEitherOutput) {
  for (const bool reference : {false, true}) expect_gradients_of_either_output(op(reference), inputs(2, 5, 9, 3, 1));
}

TEST(DplrScan, AnyCutWithCarriedStateEqualsTheWhole) {
  expect_any_cut_equals_the_whole(kFused, inputs(3, 18, 35, 5, 2), 2, 6);
}

// Steps run over modes instead of channels.
TEST(DplrScan, TokenByTokenEqualsTheWhole) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    for (const int64_t rank : {1, 2}) {
      expect_steps_equal_the_whole(kFused, inputs(2, 19, 40, 37, rank, true, dtype), 2, 6);
    }
  }
}

TEST(DplrScan, PaddingAndPackingChangeNothing) {
  expect_padding_and_packing_change_nothing(kFused, inputs(1, 20, 12, 6, 2, false), 2);
  expect_rows_as_alone(op(false), inputs(4, 20, 30, 6, 2), {0, 6});
}

TEST(DplrScan, SameBitsForAnyThreadsAndRuns) {
  expect_same_bits_for_any_threads(op(false, mixed_positions(5, 100)), inputs(5, 70, 100, 9, 2, true, at::kFloat));
}

TEST(DplrScan, Bfloat16KeepsItsStateInFloat32) {
  expect_float_states(op(false), inputs(2, 20, 40, 6, 1, true, at::kBFloat16), 4e-3);
}

TEST(DplrScan, LayoutsOfInputAndOutput) { expect_any_layout(op(false), inputs(3, 18, 11, 4, 1)); }

TEST(DplrScan, DoubleBackwardRaises) { expect_double_backward_raises(op, inputs(1, 4, 3, 2, 1)); }

TEST(DplrScan, MetaTensorsHaveTheShapesOfTheResult) {
  const auto meta = at::TensorOptions().device(at::kMeta).dtype(at::kFloat);
  Tensors in{at::empty({2, 5, 7}, meta)};
  for (int i = 0; i < 3; ++i) in.push_back(at::empty({5, 3, 2}, meta));
  for (int i = 0; i < 2; ++i) in.push_back(at::empty({5, 2, 3, 2}, meta));
  expect_shapes_of_meta_tensors(op, in, 3);
}

TEST(DplrScan, ReferenceCountsItsOperations) {
  const int64_t batch = 2, channels = 3, length = 4, states = 5, rank = 2;
  std::vector<Counted> u(batch * length * channels), pairs(channels * rank * states * 2), y(u.size());
  std::vector<Counted> state(batch * channels * states * 2);
  DplrScanForward<Counted> p{};
  p.batch = batch, p.channels = channels, p.length = length, p.states = states, p.rank = rank;
  p.u = u.data();
  p.a = p.b = p.c = p.q = p.w = pairs.data();
  p.y = y.data();
  p.last_state = state.data();
  Counted::operations = 0;
  dplr_scan_forward_reference(p);
  EXPECT_EQ(Counted::operations, batch * channels * length * (states * (14 + 8 * rank) + 1 + rank));
}

TEST(DplrScan, WrongShapesAreNamed) {
  const Tensors good = inputs(2, 3, 4, 5, 2);
  for (size_t i = 1; i < good.size(); ++i) {
    Tensors bad = good;
    bad[i] = good[i].slice(i < 4 ? 1 : 2, 0, 4);
    EXPECT_THROW(op(false)(bad), c10::Error) << i;
  }
  Tensors one_rank = good;
  one_rank[4] = good[4].slice(1, 0, 1);
  EXPECT_THROW(op(false)(one_rank), c10::Error);
  EXPECT_THROW(op(false)(inputs(2, 3, 4, 5, 3)), c10::Error);
  EXPECT_THROW(op(false, at::zeros({2, 3}, at::kLong))(good), c10::Error);
  Tensors empty = good;
  empty[0] = good[0].slice(2, 0, 0);
  expect_same_bits({op(false)(empty)[1]}, {good[6]}, "no token, same state");
}

}  // namespace
}  // namespace dplr_scan_test
}  // namespace hippodrome
