// SSD: the recurrence by hand, fused against reference, gradients against differences, split, padding and packing,
// determinism, dtypes and meta.
#include "architectures/ssm/ssd/ssd.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "architectures/ssm/ssd/op.h"
#include "tests/architectures/op_checks.h"
#include "tests/architectures/ssm/ssd_cases.h"

namespace hippodrome::ssd_test {
namespace {

using at::Tensor;
using selective_scan_test::expect_as_good_as_plain;
using selective_scan_test::expect_close;
using selective_scan_test::expect_same_layout;
using selective_scan_test::relative_error;
using selective_scan_test::Results;
using selective_scan_test::rms;
using selective_scan_test::uniform;
using torch::autograd::variable_list;
using Arguments = SsdArguments;

// Forward and backward with fixed weights on y and on the last state.
Results run(Arguments a, bool reference, bool gradients = true) {
  variable_list inputs;
  for (Tensor* t : floating_inputs(a)) {
    *t = t->detach().set_requires_grad(gradients);
    inputs.push_back(*t);
  }
  const auto [y, last_state] = reference ? ssd_reference(a) : ssd(a);
  Results r{y.detach(), last_state.detach(), {}};
  if (!gradients) return r;
  r.gradients = torch::autograd::grad(
      {y, last_state}, inputs,
      {uniform(y.sizes(), 20).to(y.scalar_type()), uniform(last_state.sizes(), 21).to(last_state.scalar_type())});
  return r;
}

std::string describe(const Shape& s, int options) {
  return "L " + std::to_string(s.length) + " H " + std::to_string(s.heads) + " P " + std::to_string(s.head_size) +
         " G " + std::to_string(s.groups) + " N " + std::to_string(s.states) + " chunk " + std::to_string(s.chunk) +
         " options " + std::to_string(options);
}

void expect_float_as_good_as_plain(const Shape& s, int options, const Results& want) {
  const Arguments a = make_arguments(s, options, at::kFloat);
  const Results got = run(a, false), plain = run(a, true);
  const std::string what = describe(s, options) + " float";
  expect_as_good_as_plain(got, plain, want, /*few=*/9, what);
}

void expect_fused_equals_reference(const Shape& s, int options) {
  const Results want = run(make_arguments(s, options), true);
  expect_close(run(make_arguments(s, options), false), want, 1e-12, 1e-11, describe(s, options));
  expect_close(run(make_arguments(s, options), false, false), {want.y, want.last_state, {}}, 1e-12, 0.0,
               describe(s, options) + " inference");
  expect_float_as_good_as_plain(s, options, want);
}

// Two steps of a head with P = 1 and N = 2 by hand: h = exp(dt A) h + dt x B, y = C . h + D x.
TEST(Ssd, TwoStepsByHand) {
  Arguments a;
  a.x = at::tensor({2.0, -1.0}, at::kDouble).view({1, 2, 1, 1});
  a.dt = at::tensor({0.5, 0.25}, at::kDouble).view({1, 2, 1});
  a.A = at::tensor({-2.0}, at::kDouble);
  a.B = at::tensor({1.0, 3.0, -1.0, 2.0}, at::kDouble).view({1, 2, 1, 2});
  a.C = at::tensor({1.0, 1.0, 0.5, -1.0}, at::kDouble).view({1, 2, 1, 2});
  a.D = at::tensor({10.0}, at::kDouble);
  const double decay = std::exp(-0.5), h0 = decay * 1.0 + 0.25, h1 = decay * 3.0 - 0.5;
  for (const bool reference : {false, true}) {
    for (const bool gradients : {false, true}) {  // the path of single steps, and the chunked one
      const Results r = run(a, reference, gradients);
      EXPECT_NEAR(r.y[0][0][0][0].item<double>(), 4.0 + 20.0, 1e-14);
      EXPECT_NEAR(r.y[0][1][0][0].item<double>(), 0.5 * h0 - h1 - 10.0, 1e-14);
      EXPECT_NEAR(r.last_state[0][0][0][0].item<double>(), h0, 1e-15);
      EXPECT_NEAR(r.last_state[0][0][0][1].item<double>(), h1, 1e-15);
    }
  }
}

TEST(Ssd, FusedEqualsReferenceOverShapes) {
  for (const int64_t length : {1, 2, 4, 5, 63, 64, 65, 130, 200}) {
    for (const int64_t head_size : {1, 5, 16, 20}) {
      for (const int64_t states : {1, 7, 16}) {
        const Shape s{2, length, 3, head_size, 1, states, length % 2 == 0 ? 256 : 100};
        expect_fused_equals_reference(s, (length + head_size + states) % 2 == 0 ? kAll : kAll & ~kPositions);
      }
    }
  }
}

TEST(Ssd, FusedEqualsReferenceOverOptionsAndGroups) {
  for (int options = 0; options <= kAll; ++options) {
    for (const int64_t length : {3, 70}) expect_fused_equals_reference({2, length, 4, 3, 2, 5, 256}, options);
  }
}

// More heads in a group than a work item takes, heads and states of more than one vector, chunks shorter than a tile.
TEST(Ssd, ManyHeadsAndManyStates) {
  for (const Shape& s :
       {Shape{1, 90, 12, 8, 2, 9, 256}, Shape{1, 70, 9, 64, 1, 33, 64}, Shape{2, 66, 2, 40, 1, 130, 17},
        Shape{1, 3, 2, 70, 2, 20, 256}, Shape{1, 300, 1, 17, 1, 18, 128}}) {
    expect_fused_equals_reference(s, kAll);
  }
}

TEST(Ssd, EveryInstructionSet) {
  selective_scan_test::for_each_instruction_set([] {
    SCOPED_TRACE(ssd_kernel::instruction_set());
    for (const Shape& s :
         {Shape{2, 70, 6, 7, 2, 9, 256}, Shape{1, 130, 2, 33, 1, 18, 64}, Shape{2, 1, 3, 18, 1, 20, 256}}) {
      expect_fused_equals_reference(s, kAll);
    }
  });
}

// The chunk is a matter of memory: where it is a multiple of the tile, not even of rounding.
TEST(Ssd, ChunkChangesNoResult) {
  const Shape s{2, 200, 5, 12, 1, 10, 64};
  const Results want = run(make_arguments(s, kAll, at::kFloat), false);
  for (const int64_t chunk : {128, 192, 4096}) {
    Arguments a = make_arguments(s, kAll, at::kFloat);
    a.chunk = chunk;
    expect_close(run(a, false), want, 0.0, 0.0, "chunk " + std::to_string(chunk));
  }
  Arguments odd = make_arguments(s, kAll);
  const Results exact = run(odd, false);
  odd.chunk = 37;
  expect_close(run(odd, false), exact, 1e-13, 1e-12, "chunk 37");
}

// Fast decay over a long tile: sums of dt A of some hundreds, where their differences lose digits unless they are kept
// to twice the precision, and where exp above the diagonal overflows.
TEST(Ssd, FastDecayStaysExact) {
  const Shape s{1, 256, 4, 16, 1, 16, 256};
  Arguments a = make_arguments(s, kSkip | kState);
  a.A = at::tensor({-1.0, -16.0, -100.0, -1000.0}, at::kDouble);
  for (Tensor* t : floating_inputs(a)) *t = t->to(at::kFloat).to(at::kDouble);
  const Results want = run(a, true);
  for (Tensor* t : floating_inputs(a)) *t = t->to(at::kFloat);
  const Results got = run(a, false);
  EXPECT_TRUE(got.y.isfinite().all().item<bool>());
  expect_close(got, want, 1e-6, 3e-6, "fast decay");
}

TEST(Ssd, FloatIsWithinOnePerMillionOfDouble) {
  const Shape s{1, 2048, 4, 32, 1, 64, 256};
  Arguments a = make_arguments(s, kSkip | kGate | kBias | kSoftplus);
  a.dt = uniform({1, s.length, s.heads}, 2, -0.5, 0.5);
  for (int64_t h = 0; h < s.heads; ++h) {
    (*a.dt_bias)[h] = std::log(std::expm1(0.001 * std::pow(100.0, static_cast<double>(h) / (s.heads - 1))));
    a.A[h] = -1.0 - 5.0 * h;
  }
  for (Tensor* t : floating_inputs(a)) *t = t->to(at::kFloat).to(at::kDouble);
  const Results want = run(a, true);
  for (Tensor* t : floating_inputs(a)) *t = t->to(at::kFloat);
  expect_close(run(a, false), want, 1e-6, 3e-6, "Mamba-2's initialisation");
}

double weighted_sum(const Arguments& a) {
  const auto [y, last_state] = ssd_reference(a);
  return ((y * uniform(y.sizes(), 20)).sum() + (last_state * uniform(last_state.sizes(), 21)).sum()).item<double>();
}

TEST(Ssd, ReferenceGradientsEqualDifferences) {
  for (const int options : {static_cast<int>(kPlain), kAll & ~kPositions, static_cast<int>(kAll)}) {
    const Shape s{2, 14, 4, 3, 2, 3, 256};
    Arguments a = make_arguments(s, options);
    const variable_list gradients = run(a, true).gradients;
    const std::vector<Tensor*> inputs = floating_inputs(a);
    for (size_t i = 0; i < inputs.size(); ++i) {
      *inputs[i] = inputs[i]->clone();
      const Tensor differences = op_checks::central_differences(*inputs[i], 1e-6, [&] { return weighted_sum(a); });
      EXPECT_LE(op_checks::farthest(gradients[i], differences), 1e-7) << "options " << options << ", input " << i;
    }
  }
}

Arguments time_slice(const Arguments& a, int64_t begin, int64_t end) {
  Arguments part = a;
  for (Tensor* t : {&part.x, &part.dt, &part.B, &part.C}) *t = t->slice(1, begin, end);
  if (part.z.has_value()) part.z = part.z->slice(1, begin, end);
  if (part.positions.has_value()) part.positions = part.positions->slice(1, begin, end);
  return part;
}

TEST(Ssd, AnySplitWithCarriedStateEqualsTheWhole) {
  const Shape s{2, 150, 4, 6, 2, 7, 256};
  Arguments a = make_arguments(s, kAll);
  const Results want = run(a, false);
  for (const int64_t cut : {1, 3, 63, 64, 65, 149}) {
    Arguments first = a;
    variable_list inputs;
    for (Tensor* t : floating_inputs(first)) {
      *t = t->detach().set_requires_grad(true);
      inputs.push_back(*t);
    }
    Arguments second = time_slice(first, cut, s.length);
    const auto [y1, h1] = ssd(time_slice(first, 0, cut));
    second.initial_state = h1;
    const auto [y2, h2] = ssd(second);
    const Tensor y = at::cat({y1, y2}, 1);
    Results got{y.detach(), h2.detach(),
                torch::autograd::grad({y, h2}, inputs, {uniform(y.sizes(), 20), uniform(h2.sizes(), 21)})};
    expect_close(got, want, 1e-13, 1e-12, "cut at " + std::to_string(cut));
  }
}

TEST(Ssd, OnlyPaddingKeepsTheState) {
  for (const int64_t length : {2, 70}) {
    Arguments a = make_arguments({2, length, 3, 4, 1, 5, 256}, kAll);
    a.positions->fill_(-1);
    for (const bool reference : {false, true}) {
      const Results r = run(a, reference);
      EXPECT_EQ(rms(r.y), 0.0);
      EXPECT_EQ(relative_error(r.last_state, *a.initial_state), 0.0);
      EXPECT_EQ(rms(r.gradients[0]), 0.0);
      EXPECT_EQ(relative_error(r.gradients[8], uniform({2, 3, 4, 5}, 21)), 0.0);
      EXPECT_EQ(relative_error(run(a, reference, false).last_state, *a.initial_state), 0.0);
    }
  }
}

TEST(Ssd, InPlaceLeavesTheLastStateInTheGivenOne) {
  for (const int64_t length : {1, 3, 70}) {
    Arguments a = make_arguments({2, length, 3, 6, 1, 20, 256}, kAll, at::kFloat);
    const Results want = run(a, false, false);
    const at::NoGradGuard inference;
    const Tensor state = a.initial_state->clone();
    a.initial_state.reset();
    EXPECT_EQ(relative_error(ssd_in_place(a, state), want.y), 0.0) << length;
    EXPECT_EQ(relative_error(state, want.last_state), 0.0) << length;
    EXPECT_THROW(ssd_in_place(a, state.to(at::kDouble)), c10::Error);
  }
}

TEST(Ssd, StridedInputs) {
  const Shape s{2, 70, 3, 6, 1, 5, 256};
  const Arguments plain = make_arguments(s, kAll, at::kFloat);
  const Results want = run(plain, false);
  // Slices of one projection, as the layer has them, and a layout no kernel takes.
  Arguments sliced = plain, backwards = plain;
  const Tensor projection = at::cat({plain.x.flatten(2), plain.B.flatten(2), plain.C.flatten(2)}, 2);
  sliced.x = projection.slice(2, 0, 18).unflatten(2, {3, 6});
  sliced.B = projection.slice(2, 18, 23).unflatten(2, {1, 5});
  sliced.C = projection.slice(2, 23, 28).unflatten(2, {1, 5});
  for (Tensor* t : floating_inputs(backwards)) {
    if (t->dim() > 1) *t = t->transpose(0, -1).contiguous().transpose(0, -1);
  }
  for (const Arguments& a : {sliced, backwards}) expect_close(run(a, false), want, 0.0, 0.0, "strided");
}

TEST(Ssd, SameBitsEveryRunAndForEveryThreadCount) {
  const Arguments a = make_arguments({2, 150, 10, 16, 1, 20, 64}, kAll, at::kFloat);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const Results one = run(a, false), again = run(a, false);
  at::set_num_threads(2);
  const Results two = run(a, false);
  at::set_num_threads(threads);
  expect_close(again, one, 0.0, 0.0, "run twice");
  expect_close(two, one, 0.0, 0.0, "two threads");
}

TEST(Ssd, BFloat16KeepsTheStateInFloat32) {
  Arguments a = make_arguments({2, 80, 4, 16, 1, 16, 256}, kAll);
  for (Tensor* t : {&a.x, &a.dt, &a.B, &a.C, &*a.z}) *t = t->to(at::kBFloat16);
  for (Tensor* t : {&a.A, &*a.D, &*a.dt_bias, &*a.initial_state}) *t = t->to(at::kFloat);
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

TEST(Ssd, SecondDerivativeRaises) {
  for (const bool reference : {false, true}) {
    Arguments a = make_arguments({}, kAll);
    a.x.set_requires_grad(true);
    const Tensor y = std::get<0>(reference ? ssd_reference(a) : ssd(a));
    const Tensor dx = torch::autograd::grad({y.sum()}, {a.x}, {}, std::nullopt, true)[0];
    try {
      torch::autograd::grad({dx.sum()}, {a.x});
      FAIL() << "no error";
    } catch (const c10::Error& error) {
      EXPECT_NE(std::string(error.what()).find("can be differentiated once only"), std::string::npos) << error.what();
    }
  }
}

TEST(Ssd, OnlyOneOutputUsed) {
  for (const bool use_state : {false, true}) {
    variable_list gradients[2];
    for (const bool reference : {false, true}) {
      Arguments a = make_arguments({}, kAll & ~kLimits);
      variable_list inputs;
      for (Tensor* t : floating_inputs(a)) inputs.push_back(t->set_requires_grad(true));
      const auto [y, last_state] = reference ? ssd_reference(a) : ssd(a);
      gradients[reference] = torch::autograd::grad({use_state ? last_state.sum() : y.sum()}, inputs);
    }
    for (size_t i = 0; i < gradients[0].size(); ++i) {
      EXPECT_LE(relative_error(gradients[0][i], gradients[1][i]), 1e-13) << i;
    }
  }
}

TEST(Ssd, EmptySequence) {
  const Arguments a = make_arguments({2, 0, 3, 4, 1, 5, 256}, kAll);
  for (const bool reference : {false, true}) {
    const Results r = run(a, reference);
    EXPECT_EQ(r.y.numel(), 0);
    EXPECT_EQ(relative_error(r.last_state, *a.initial_state), 0.0);
    EXPECT_EQ(rms(r.gradients[2]), 0.0);
    EXPECT_EQ(relative_error(r.gradients[8], uniform({2, 3, 4, 5}, 21)), 0.0);
  }
}

TEST(Ssd, MetaTensorsGiveShapesAndLayouts) {
  Arguments a = make_arguments({2, 70, 6, 4, 2, 5, 32}, kAll, at::kFloat);
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
    const Tensor y = std::get<0>(reference ? ssd_reference(traced) : ssd(traced));
    const variable_list gradients = torch::autograd::grad({y.sum()}, inputs);
    for (size_t i = 0; i < inputs.size(); ++i) expect_same_layout(gradients[i], real.gradients[i]);
  }
}

TEST(Ssd, WrongShapesAreNamed) {
  const auto message = [](const Arguments& a) -> std::string {
    try {
      ssd(a);
    } catch (const c10::Error& error) {
      return error.what_without_backtrace();
    }
    return "no error";
  };
  Arguments a = make_arguments({}, kAll);
  a.B = at::zeros({2, 5, 2, 5}, at::kDouble);
  EXPECT_NE(message(a).find("the heads H must divide into the groups G"), std::string::npos) << message(a);
  a = make_arguments({}, kAll);
  a.C = a.C.slice(3, 1);
  EXPECT_NE(message(a).find("B and C must both be [B, L, G, N]"), std::string::npos) << message(a);
  a = make_arguments({}, kAll);
  a.positions = a.positions->to(at::kInt);
  EXPECT_NE(message(a).find("int64"), std::string::npos) << message(a);
  a = make_arguments({}, kAll);
  a.dt = a.dt.slice(2, 1);
  EXPECT_NE(message(a).find("dt must be [B, L, H]"), std::string::npos) << message(a);
  a = make_arguments({}, kAll);
  a.dt_low = 2.0;
  EXPECT_NE(message(a).find("dt_low must not exceed dt_high"), std::string::npos) << message(a);
  a = make_arguments({}, kAll);
  a.chunk = 0;
  EXPECT_NE(message(a).find("chunk must be from 1"), std::string::npos) << message(a);
}

}  // namespace
}  // namespace hippodrome::ssd_test
