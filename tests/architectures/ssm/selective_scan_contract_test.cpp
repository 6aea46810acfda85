// What callers of the selective scan rely on beside its numbers: cuts, packing and padding, states in place, layouts,
// dtypes, the same bits every run, how far it can be differentiated, meta tensors and errors.
#include "architectures/ssm/selective_scan/selective_scan.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "tests/architectures/ssm/selective_scan_cases.h"

namespace hippodrome::selective_scan_test {
namespace {

Arguments time_slice(const Arguments& a, int64_t begin, int64_t end) {
  Arguments part = a;
  for (Tensor* t : {&part.u, &part.delta, &part.B, &part.C}) *t = t->slice(-1, begin, end);
  if (part.z.has_value()) part.z = part.z->slice(-1, begin, end);
  if (part.positions.has_value()) part.positions = part.positions->slice(-1, begin, end);
  return part;
}

TEST(SelectiveScan, EveryCutEqualsTheWhole) {
  const Shape s{2, 5, 9, 3, 1};
  for (const int options : {static_cast<int>(kAll), kAll & ~kPositions}) {
    const Results whole = run(make_arguments(s, options), false);
    for (int64_t cut = 1; cut < s.length; ++cut) {
      Arguments a = make_arguments(s, options);
      variable_list inputs;
      for (Tensor* t : floating_inputs(a)) inputs.push_back(t->set_requires_grad(true));
      const auto [y1, middle] = selective_scan(time_slice(a, 0, cut));
      Arguments second = time_slice(a, cut, s.length);
      second.initial_state = middle;
      const auto [y2, last_state] = selective_scan(second);
      const Tensor y = at::cat({y1, y2}, 2);
      const Tensor dy = transposed({s.batch, s.length, s.channels}, 20), dlast = uniform(last_state.sizes(), 21);
      const Results cut_results{y.detach(), last_state.detach(),
                                torch::autograd::grad({y, last_state}, inputs, {dy, dlast})};
      expect_close(cut_results, whole, 1e-13, 1e-13, "cut at " + std::to_string(cut));
    }
  }
}

TEST(SelectiveScan, CutsAtTheEdgesOfAChunk) {
  const Shape s{1, 20, 200, 16, 1};
  const Arguments a = make_arguments(s, kAll & ~kPositions, at::kFloat);
  const Results whole = run(a, false, false);
  for (const int64_t cut : {1, 3, 63, 64, 65, 128, 199}) {
    const Results first = run(time_slice(a, 0, cut), false, false);
    Arguments rest = time_slice(a, cut, s.length);
    rest.initial_state = first.last_state;
    const Results second = run(rest, false, false);
    EXPECT_LE(relative_error(at::cat({first.y, second.y}, 2), whole.y), 1e-6) << cut;
    EXPECT_LE(relative_error(second.last_state, whole.last_state), 1e-6) << cut;
  }
}

// Two sequences in one row give what they give alone, and nothing in the padding, not even NaN, is seen.
TEST(SelectiveScan, PackingAndPadding) {
  const Shape one{1, 18, 33, 6, 1}, two{1, 18, 50, 6, 1};
  const int options = kAll & ~kPositions & ~kState;
  for (const bool reference : {false, true}) {
    Arguments a = make_arguments(one, options), b = make_arguments(two, options);
    b.A = a.A, b.D = a.D, b.delta_bias = a.delta_bias;
    const Results alone_a = run(a, reference, false), alone_b = run(b, reference, false);
    const double nan = std::numeric_limits<double>::quiet_NaN();
    const auto joined = [&](const Tensor& x, const Tensor& y) {
      const Tensor gap = at::full({1, x.size(1), 3}, nan, at::kDouble);
      return at::cat({gap, x, gap, y, gap}, 2);
    };
    Arguments packed = a;
    packed.u = joined(a.u, b.u), packed.delta = joined(a.delta, b.delta), packed.z = joined(*a.z, *b.z);
    packed.B = joined(a.B, b.B), packed.C = joined(a.C, b.C);
    packed.initial_state = at::full({1, 18, 6}, 5.0, at::kDouble);  // must not be seen either
    Tensor positions = at::full({1, 92}, -1, at::kLong);
    for (int64_t t = 0; t < 33; ++t) positions[0][3 + t] = t;
    for (int64_t t = 0; t < 50; ++t) positions[0][39 + t] = t;
    packed.positions = positions;
    const Results r = run(packed, reference);
    EXPECT_LE(relative_error(r.y.slice(2, 3, 36), alone_a.y), 1e-13);
    EXPECT_LE(relative_error(r.y.slice(2, 39, 89), alone_b.y), 1e-13);
    EXPECT_LE(relative_error(r.last_state, alone_b.last_state), 1e-13);
    for (const auto& [begin, end] : {std::pair{0, 3}, std::pair{36, 39}, std::pair{89, 92}}) {
      EXPECT_EQ(r.y.slice(2, begin, end).abs().max().item<double>(), 0.0);
      for (const size_t i : {0, 1, 3, 4, 6}) {  // u, delta, B, C, z
        EXPECT_EQ(r.gradients[i].slice(2, begin, end).abs().max().item<double>(), 0.0) << "input " << i;
      }
    }
    for (const Tensor& gradient : r.gradients) EXPECT_TRUE(std::isfinite(gradient.sum().item<double>()));
    EXPECT_EQ(r.gradients[8].abs().max().item<double>(), 0.0);  // nothing reaches the initial state
  }
}

TEST(SelectiveScan, OnlyPaddingKeepsTheState) {
  for (const int64_t length : {1, 4, 70}) {
    Arguments a = make_arguments({2, 5, length, 3, 1}, kAll);
    a.positions = at::full({2, length}, -1, at::kLong);
    const Results r = run(a, false);
    EXPECT_EQ(relative_error(r.last_state, *a.initial_state), 0.0);
    EXPECT_EQ(rms(r.y), 0.0);
    EXPECT_EQ(relative_error(r.gradients[8], uniform({2, 5, 3}, 21)), 0.0);
  }
}

TEST(SelectiveScan, InPlaceLeavesTheLastStateInTheGivenOne) {
  for (const int64_t length : {1, 3, 70}) {
    for (const int options : {kAll + 0, kAll | kComplex}) {
      Arguments a = make_arguments({2, 19, length, 6, 1}, options, at::kFloat);
      const Results want = run(a, false, false);
      const at::NoGradGuard inference;
      const Tensor state = a.initial_state->clone();
      a.initial_state.reset();
      EXPECT_EQ(relative_error(selective_scan_in_place(a, state), want.y), 0.0) << length;
      EXPECT_EQ(relative_error(state, want.last_state), 0.0) << length;
      EXPECT_THROW(selective_scan_in_place(a, state.to(at::kDouble)), c10::Error);
      // Any other device: through the dispatcher.
      for (Tensor* t : floating_inputs(a)) *t = t->to(at::kMeta);
      a.positions = a.positions->to(at::kMeta);
      EXPECT_EQ(selective_scan_in_place(a, state.to(at::kMeta)).sizes(), want.y.sizes());
    }
  }
}

TEST(SelectiveScan, StridedInputs) {
  const Shape s{2, 19, 70, 6, 1};
  const Arguments plain = make_arguments(s, kAll, at::kFloat);
  const Results want = run(plain, false);
  // Channels strided: contiguous [B, D, L].
  Arguments contiguous = plain;
  for (Tensor* t : floating_inputs(contiguous)) *t = t->contiguous();
  // B and C as column slices of one [B, L, R + 2 N] projection, u and z as halves of another.
  Arguments sliced = plain;
  const Tensor projection = at::cat({at::zeros({2, 70, 3}), plain.B.transpose(1, 2), plain.C.transpose(1, 2)}, 2);
  sliced.B = projection.slice(2, 3, 9).transpose(1, 2);
  sliced.C = projection.slice(2, 9, 15).transpose(1, 2);
  const Tensor both = at::cat({plain.u.transpose(1, 2), plain.z->transpose(1, 2)}, 2);
  sliced.u = both.slice(2, 0, 19).transpose(1, 2);
  sliced.z = both.slice(2, 19, 38).transpose(1, 2);
  for (const Arguments& a : {contiguous, sliced}) expect_close(run(a, false), want, 0.0, 0.0, "strided");
}

TEST(SelectiveScan, SameBitsEveryRunAndForEveryThreadCount) {
  const Shape s{2, 200, 150, 16, 1};
  const Arguments a = make_arguments(s, kAll, at::kFloat);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const Results one = run(a, false), again = run(a, false);
  at::set_num_threads(2);
  const Results two = run(a, false);
  at::set_num_threads(threads);
  expect_close(again, one, 0.0, 0.0, "run twice");
  expect_close(two, one, 0.0, 0.0, "two threads");
}

TEST(SelectiveScan, BFloat16KeepsTheStateInFloat32) {
  const Shape s{2, 20, 80, 16, 1};
  Arguments a = make_arguments(s, kAll);
  for (Tensor* t : {&a.u, &a.delta, &a.B, &a.C, &*a.z}) *t = t->to(at::kBFloat16);
  for (Tensor* t : {&a.A, &*a.D, &*a.delta_bias, &*a.initial_state}) *t = t->to(at::kFloat);
  Arguments exact = a;
  for (Tensor* t : floating_inputs(exact)) *t = t->to(at::kDouble);
  const Results got = run(a, false);
  EXPECT_EQ(got.y.scalar_type(), at::kBFloat16);
  EXPECT_EQ(got.last_state.scalar_type(), at::kFloat);
  EXPECT_EQ(got.gradients[0].scalar_type(), at::kBFloat16);
  EXPECT_EQ(got.gradients[2].scalar_type(), at::kFloat);
  const Results want = run(exact, true, false);
  EXPECT_LE(relative_error(got.y, want.y), 3e-3);
  EXPECT_LE(relative_error(got.last_state, want.last_state), 1e-6);
}

TEST(SelectiveScan, SecondDerivativeRaises) {
  for (const bool reference : {false, true}) {
    Arguments a = make_arguments({}, kAll);
    a.u.set_requires_grad(true);
    const Tensor y = std::get<0>(reference ? selective_scan_reference(a) : selective_scan(a));
    const Tensor du = torch::autograd::grad({y.sum()}, {a.u}, {}, std::nullopt, true)[0];
    try {
      torch::autograd::grad({du.sum()}, {a.u});
      FAIL() << "no error";
    } catch (const c10::Error& error) {
      EXPECT_NE(std::string(error.what()).find("can be differentiated once only"), std::string::npos) << error.what();
    }
  }
}

TEST(SelectiveScan, OnlyOneOutputUsed) {
  for (const bool use_state : {false, true}) {
    variable_list gradients[2];
    for (const bool reference : {false, true}) {
      Arguments a = make_arguments({}, kAll);
      variable_list inputs;
      for (Tensor* t : floating_inputs(a)) inputs.push_back(t->set_requires_grad(true));
      const auto [y, last_state] = reference ? selective_scan_reference(a) : selective_scan(a);
      gradients[reference] = torch::autograd::grad({use_state ? last_state.sum() : y.sum()}, inputs);
    }
    for (size_t i = 0; i < gradients[0].size(); ++i) {
      EXPECT_LE(relative_error(gradients[0][i], gradients[1][i]), 1e-13) << i;
    }
  }
}

TEST(SelectiveScan, EmptySequence) {
  Arguments a = make_arguments({2, 3, 0, 4, 1}, kAll);
  for (const bool reference : {false, true}) {
    const Results r = run(a, reference);
    EXPECT_EQ(r.y.numel(), 0);
    EXPECT_EQ(relative_error(r.last_state, *a.initial_state), 0.0);
    EXPECT_EQ(rms(r.gradients[2]), 0.0);
    EXPECT_EQ(relative_error(r.gradients[8], uniform({2, 3, 4}, 21)), 0.0);
  }
}

TEST(SelectiveScan, MetaTensorsGiveShapesAndLayouts) {
  for (const int64_t groups : {1, 2}) {
    const Shape s{2, 6, 70, 5, groups};
    Arguments a = make_arguments(s, kAll, at::kFloat);
    Arguments meta = a;
    for (Tensor* t : floating_inputs(meta)) *t = t->to(at::kMeta);
    meta.positions = a.positions->to(at::kMeta);
    for (const bool reference : {false, true}) {
      const Results real = run(a, reference), shapes = run(meta, reference, false);
      expect_same_layout(shapes.y, real.y);
      expect_same_layout(shapes.last_state, real.last_state);
      variable_list inputs;
      Arguments traced = meta;
      for (Tensor* t : floating_inputs(traced)) {
        *t = t->detach().set_requires_grad(true);
        inputs.push_back(*t);
      }
      const Tensor y = std::get<0>(reference ? selective_scan_reference(traced) : selective_scan(traced));
      const variable_list gradients = torch::autograd::grad({y.sum()}, inputs);
      for (size_t i = 0; i < inputs.size(); ++i) expect_same_layout(gradients[i], real.gradients[i]);
    }
  }
}

TEST(SelectiveScan, WrongShapesAreNamed) {
  const auto message = [](const Arguments& a) -> std::string {
    try {
      selective_scan(a);
    } catch (const c10::Error& error) {
      return error.what_without_backtrace();
    }
    return "no error";
  };
  Arguments a = make_arguments({}, kAll);
  a.A = at::zeros({3, 257}, at::kDouble);
  EXPECT_NE(message(a).find("N from 1 to 256"), std::string::npos) << message(a);
  a = make_arguments({2, 3, 5, 3, 1}, kAll);
  a.complex = true;
  EXPECT_NE(message(a).find("N even when it is complex"), std::string::npos) << message(a);
  a = make_arguments({}, kAll);
  a.C = a.C.slice(2, 1);
  EXPECT_NE(message(a).find("B and C must"), std::string::npos) << message(a);
  a = make_arguments({}, kAll);
  a.positions = a.positions->to(at::kInt);
  EXPECT_NE(message(a).find("int64"), std::string::npos) << message(a);
  a = make_arguments({}, kAll);
  a.delta = a.delta.slice(1, 1);
  EXPECT_NE(message(a).find("delta must have the shape of u"), std::string::npos) << message(a);
}
}  // namespace
}  // namespace hippodrome::selective_scan_test
