// The selective scan: golden vector, fused against reference, gradients against differences, split, padding and
// packing, determinism, dtypes, meta, and the errors of the elementary functions.
#include "architectures/ssm/selective_scan/selective_scan.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "architectures/ssm/selective_scan/op.h"
#include "architectures/ssm/selective_scan/reference.h"
#include "hwy/targets.h"

namespace hippodrome::selective_scan_test {
namespace {

using at::Tensor;
using Arguments = SelectiveScanArguments;
using torch::autograd::variable_list;

// Uniform in [low, high), the same for the same seed.
Tensor uniform(at::IntArrayRef sizes, uint64_t seed, double low = -1.0, double high = 1.0) {
  Tensor t = at::empty(sizes, at::kDouble);
  double* data = t.mutable_data_ptr<double>();
  uint64_t x = seed * 0x9E3779B97F4A7C15u + 1;
  for (int64_t i = 0; i < t.numel(); ++i) {
    x = x * 6364136223846793005u + 1442695040888963407u;
    data[i] = low + (high - low) * static_cast<double>(x >> 11) * 0x1p-53;
  }
  return t;
}

struct Shape {
  int64_t batch = 2, channels = 3, length = 5, states = 4, groups = 1;
};

enum Option { kPlain = 0, kSkip = 1, kGate = 2, kBias = 4, kSoftplus = 8, kState = 16, kPositions = 32, kAll = 63 };

// Padding at both ends of the rows and inside, and sequences that start in mid-chunk.
Tensor awkward_positions(int64_t batch, int64_t length) {
  Tensor positions = at::empty({batch, length}, at::kLong);
  for (int64_t b = 0; b < batch; ++b) {
    int64_t position = b + 1;  // row 0 continues from the initial state
    for (int64_t t = 0; t < length; ++t) {
      if ((t * 7 + b * 3) % 29 == 11) position = 0;
      const bool padding = (t * 5 + b) % 13 == 4 || (b == 1 && t < 2);
      positions[b][t] = padding ? -1 : position++;
    }
  }
  return positions;
}

// Channels contiguous, the layout of the fast path.
Tensor transposed(at::IntArrayRef batch_length_channels, uint64_t seed, double low = -1.0, double high = 1.0) {
  return uniform(batch_length_channels, seed, low, high).transpose(1, 2);
}

Arguments make_arguments(const Shape& s, int options, at::ScalarType dtype = at::kDouble) {
  Arguments a;
  a.u = transposed({s.batch, s.length, s.channels}, 1);
  const bool softplus = options & kSoftplus;
  a.delta = transposed({s.batch, s.length, s.channels}, 2, softplus ? -3.0 : 0.01, softplus ? 1.0 : 0.4);
  a.A = uniform({s.channels, s.states}, 3, -2.0, -0.05);
  if (s.groups == 1) {
    a.B = transposed({s.batch, s.length, s.states}, 4);
    a.C = transposed({s.batch, s.length, s.states}, 5);
  } else {
    a.B = uniform({s.batch, s.length, s.groups, s.states}, 4).permute({0, 2, 3, 1});
    a.C = uniform({s.batch, s.length, s.groups, s.states}, 5).permute({0, 2, 3, 1});
  }
  if (options & kSkip) a.D = uniform({s.channels}, 6);
  if (options & kGate) a.z = transposed({s.batch, s.length, s.channels}, 7, -3.0, 3.0);
  if (options & kBias) a.delta_bias = uniform({s.channels}, 8, 0.0, 0.2);
  a.delta_softplus = softplus;
  if (options & kState) a.initial_state = uniform({s.batch, s.channels, s.states}, 9);
  if (options & kPositions) a.positions = awkward_positions(s.batch, s.length);
  for (Tensor* t : {&a.u, &a.delta, &a.A, &a.B, &a.C}) *t = t->to(dtype);
  for (auto* t : {&a.D, &a.z, &a.delta_bias, &a.initial_state}) {
    if (t->has_value()) *t = (*t)->to(dtype);
  }
  return a;
}

std::vector<Tensor*> floating_inputs(Arguments& a) {
  std::vector<Tensor*> inputs = {&a.u, &a.delta, &a.A, &a.B, &a.C};
  for (auto* t : {&a.D, &a.z, &a.delta_bias, &a.initial_state}) {
    if (t->has_value()) inputs.push_back(&**t);
  }
  return inputs;
}

struct Results {
  Tensor y, last_state;
  variable_list gradients;  // in the order of floating_inputs
};

// Forward and backward with fixed weights on y and on the last state.
Results run(Arguments a, bool reference, bool gradients = true) {
  variable_list inputs;
  for (Tensor* t : floating_inputs(a)) {
    *t = t->detach().set_requires_grad(gradients);
    inputs.push_back(*t);
  }
  const auto [y, last_state] = reference ? selective_scan_reference(a) : selective_scan(a);
  Results r{y.detach(), last_state.detach(), {}};
  if (!gradients) return r;
  const Tensor dy = transposed({y.size(0), y.size(2), y.size(1)}, 20).to(y.scalar_type());
  const Tensor dlast = uniform(last_state.sizes(), 21).to(last_state.scalar_type());
  r.gradients = torch::autograd::grad({y, last_state}, inputs, {dy, dlast});
  return r;
}

double rms(const Tensor& t) { return t.numel() == 0 ? 0.0 : t.to(at::kDouble).pow(2).mean().sqrt().item<double>(); }

// Root mean square of the difference over that of `want`.
double relative_error(const Tensor& got, const Tensor& want) {
  EXPECT_EQ(got.sizes(), want.sizes());
  const double error = rms(got.to(at::kDouble) - want.to(at::kDouble));
  return error == 0.0 ? 0.0 : error / std::max(rms(want), 1e-30);
}

std::string describe(const Shape& s, int options) {
  return "L " + std::to_string(s.length) + " D " + std::to_string(s.channels) + " N " + std::to_string(s.states) +
         " G " + std::to_string(s.groups) + " options " + std::to_string(options);
}

void expect_close(const Results& got, const Results& want, double forward, double backward, const std::string& what) {
  EXPECT_LE(relative_error(got.y, want.y), forward) << what;
  EXPECT_LE(relative_error(got.last_state, want.last_state), forward) << what;
  ASSERT_EQ(got.gradients.size(), want.gradients.size());
  for (size_t i = 0; i < got.gradients.size(); ++i) {
    EXPECT_LE(relative_error(got.gradients[i], want.gradients[i]), backward) << what << ", gradient " << i;
  }
}

// The house rule for float32: within 2x (forward) and 3x (backward) of the error of plain float32 loops, or a fixed
// floor. Sums that cancel (a bias gradient of one channel) make the plain loops' error large, too.
void expect_float_as_good_as_plain(const Shape& s, int options, const Results& want) {
  const Arguments a = make_arguments(s, options, at::kFloat);
  const Results got = run(a, false), plain = run(a, true);
  const std::string what = describe(s, options) + " float";
  EXPECT_LE(relative_error(got.y, want.y), std::max(1e-6, 2 * relative_error(plain.y, want.y))) << what;
  EXPECT_LE(relative_error(got.last_state, want.last_state),
            std::max(1e-6, 2 * relative_error(plain.last_state, want.last_state)))
      << what;
  for (size_t i = 0; i < got.gradients.size(); ++i) {
    // The error of one or two sums is luck; of many, a root mean square.
    const double floor = want.gradients[i].numel() < 3 ? 2e-5 : 2e-6;
    const double bound = std::max(floor, 3 * relative_error(plain.gradients[i], want.gradients[i]));
    EXPECT_LE(relative_error(got.gradients[i], want.gradients[i]), bound) << what << ", gradient " << i;
  }
}

// Two channels, two states, four steps, computed independently to eight digits.
Arguments golden_arguments() {
  Arguments a;
  a.u = at::empty({1, 2, 4}, at::kDouble), a.delta = at::empty({1, 2, 4}, at::kDouble);
  a.z = at::empty({1, 2, 4}, at::kDouble);
  a.B = at::empty({1, 2, 4}, at::kDouble), a.C = at::empty({1, 2, 4}, at::kDouble);
  for (int64_t d = 0; d < 2; ++d) {
    for (int64_t t = 0; t < 4; ++t) {
      a.u[0][d][t] = std::sin(1.0 + d + 2.0 * t);
      a.delta[0][d][t] = 0.5 * std::cos(static_cast<double>(d + t));
      (*a.z)[0][d][t] = 0.3 * (d + 1) * (t - 1.5);
      a.B[0][d][t] = 0.5 + 0.1 * t - 0.2 * d;
      a.C[0][d][t] = 1.0 - 0.3 * d + 0.05 * t;
    }
  }
  a.A = at::tensor({-1.0, -2.0, -1.0, -2.0}, at::kDouble).view({2, 2});
  a.D = at::tensor({1.0, 0.5}, at::kDouble);
  a.delta_bias = at::tensor({-1.0, -2.0}, at::kDouble);
  a.delta_softplus = true;
  return a;
}

TEST(SelectiveScan, GoldenVector) {
  const Tensor y =
      at::tensor({-0.19706231, -0.02601515, -0.08655127, 0.20839193, -0.14568984, 0.04525545, -0.02458656, 0.399284},
                 at::kDouble)
          .view({1, 2, 4});
  const Tensor h = at::tensor({0.06860249, 0.02646466, 0.07600866, 0.04933409}, at::kDouble).view({1, 2, 2});
  for (const bool reference : {false, true}) {
    const Results r = run(golden_arguments(), reference, false);
    EXPECT_LE((r.y - y).abs().max().item<double>(), 1e-8) << "reference " << reference;
    EXPECT_LE((r.last_state - h).abs().max().item<double>(), 1e-8) << "reference " << reference;
  }
}

TEST(SelectiveScan, FusedEqualsReferenceOverShapes) {
  for (const int64_t length : {1, 2, 3, 63, 64, 65, 130, 257}) {
    for (const int64_t channels : {1, 3, 16, 17, 40}) {
      for (const int64_t states : {1, 4, 16, 20}) {
        const Shape s{2, channels, length, states, 1};
        const int options = (length + channels + states) % 2 == 0 ? kAll : kAll & ~kPositions;
        const Results want = run(make_arguments(s, options), true);
        expect_close(run(make_arguments(s, options), false), want, 1e-12, 1e-12, describe(s, options));
        expect_float_as_good_as_plain(s, options, want);
      }
    }
  }
}

TEST(SelectiveScan, FusedEqualsReferenceOverOptionsAndGroups) {
  for (int options = 0; options <= kAll; ++options) {
    for (const int64_t groups : {1, 2}) {
      for (const int64_t length : {3, 70}) {
        const Shape s{2, 6, length, 5, groups};
        const Results want = run(make_arguments(s, options), true);
        expect_close(run(make_arguments(s, options), false), want, 1e-12, 1e-12, describe(s, options));
        expect_float_as_good_as_plain(s, options, want);
      }
    }
  }
}

// More channels than a superblock, twice, so that partial sums of dB and dC are added; every number of states mod 4.
TEST(SelectiveScan, ManyChannelsAndManyStates) {
  for (const Shape s : {Shape{2, 2 * 150, 90, 7, 2}, Shape{1, 130, 70, 64, 1}, Shape{1, 3, 66, 256, 1},
                        Shape{1, 5, 3, 255, 1}, Shape{3, 20, 2, 18, 2}}) {
    const Results want = run(make_arguments(s, kAll), true);
    expect_close(run(make_arguments(s, kAll), false), want, 1e-12, 1e-12, describe(s, kAll));
    expect_float_as_good_as_plain(s, kAll, want);
  }
}

// Runs `body` once per instruction set this machine and this build have, best first, then restores the choice.
template <class Body>
void for_each_instruction_set(const Body& body) {
  std::vector<std::string> names;
  for (int64_t rest = hwy::SupportedTargets(); rest != 0; rest &= rest - 1) {
    hwy::SetSupportedTargetsForTest(rest & -rest);
    hwy::GetChosenTarget().DeInit();
    const std::string name = s6::instruction_set();  // one not compiled falls back to another
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      names.push_back(name);
      SCOPED_TRACE(name);
      body();
    }
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().DeInit();
  EXPECT_GE(names.size(), 1u);
}

TEST(SelectiveScan, EveryInstructionSet) {
  for_each_instruction_set([] {
    for (const Shape s :
         {Shape{2, 6, 70, 7, 2}, Shape{1, 70, 66, 20, 1}, Shape{2, 33, 1, 18, 1}, Shape{1, 5, 3, 16, 1}}) {
      const Results want = run(make_arguments(s, kAll), true);
      expect_close(run(make_arguments(s, kAll), false), want, 1e-12, 1e-12, describe(s, kAll));
      expect_float_as_good_as_plain(s, kAll, want);
      expect_close(run(make_arguments(s, kAll), false, false), {want.y, want.last_state, {}}, 1e-12, 1e-12,
                   "inference");
    }
  });
}

// The accuracy target at a realistic width: step sizes from 0.001 to 0.1, A = -(1 ... N).
TEST(SelectiveScan, FloatIsWithinOnePerMillionOfDouble) {
  const Shape s{1, 64, 2048, 16, 1};
  Arguments a = make_arguments(s, kSkip | kGate | kBias | kSoftplus);
  a.delta = transposed({1, s.length, s.channels}, 2, -0.5, 0.5);
  for (int64_t d = 0; d < s.channels; ++d) {
    const double step = 0.001 * std::pow(100.0, static_cast<double>(d) / (s.channels - 1));
    (*a.delta_bias)[d] = std::log(std::expm1(step));
    for (int64_t n = 0; n < s.states; ++n) a.A[d][n] = -1.0 - n;
  }
  // Rounded to float first, so that both see the same numbers.
  for (Tensor* t : floating_inputs(a)) *t = t->to(at::kFloat).to(at::kDouble);
  const Results want = run(a, true);
  for (Tensor* t : floating_inputs(a)) *t = t->to(at::kFloat);
  expect_close(run(a, false), want, 1e-6, 2e-6, "Mamba's initialisation");
}

double weighted_sum(const Arguments& a) {
  const auto [y, last_state] = selective_scan_reference(a);
  const Tensor dy = transposed({y.size(0), y.size(2), y.size(1)}, 20);
  return ((y * dy).sum() + (last_state * uniform(last_state.sizes(), 21)).sum()).item<double>();
}

TEST(SelectiveScan, ReferenceGradientsEqualDifferences) {
  for (const int options : {static_cast<int>(kPlain), kAll & ~kPositions, static_cast<int>(kAll)}) {
    const Shape s{2, 4, 14, 3, 2};
    Arguments a = make_arguments(s, options);
    const variable_list gradients = run(a, true).gradients;
    const std::vector<Tensor*> inputs = floating_inputs(a);
    for (size_t i = 0; i < inputs.size(); ++i) {
      *inputs[i] = inputs[i]->clone();  // dense, so that its storage can be walked
      const Tensor gradient = gradients[i].clone();
      Tensor differences = at::zeros_like(*inputs[i]);
      double* x = inputs[i]->mutable_data_ptr<double>();
      for (int64_t k = 0; k < inputs[i]->numel(); ++k) {
        const double kept = x[k], step = 1e-5;
        x[k] = kept + step;
        const double above = weighted_sum(a);
        x[k] = kept - step;
        const double below = weighted_sum(a);
        x[k] = kept;
        differences.mutable_data_ptr<double>()[k] = (above - below) / (2 * step);
      }
      EXPECT_LE((gradient - differences).abs().max().item<double>(), 1e-8) << "options " << options << ", input " << i;
    }
  }
}

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
    const auto same = [](const Tensor& got, const Tensor& want) {
      EXPECT_TRUE(got.is_meta());
      EXPECT_EQ(got.sizes(), want.sizes());
      EXPECT_EQ(got.strides(), want.strides());
      EXPECT_EQ(got.scalar_type(), want.scalar_type());
    };
    for (const bool reference : {false, true}) {
      const Results real = run(a, reference), shapes = run(meta, reference, false);
      same(shapes.y, real.y);
      same(shapes.last_state, real.last_state);
      variable_list inputs;
      Arguments traced = meta;
      for (Tensor* t : floating_inputs(traced)) {
        *t = t->detach().set_requires_grad(true);
        inputs.push_back(*t);
      }
      const Tensor y = std::get<0>(reference ? selective_scan_reference(traced) : selective_scan(traced));
      const variable_list gradients = torch::autograd::grad({y.sum()}, inputs);
      for (size_t i = 0; i < inputs.size(); ++i) same(gradients[i], real.gradients[i]);
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

// The vectorised functions on their own, over the whole range that matters: the scan's error is theirs, accumulated.
template <class T>
double worst_relative_error(s6::Function function, double low, double high, double (*exact)(double)) {
  const int64_t count = 200003;
  std::vector<T> x(count), result(count);
  for (int64_t i = 0; i < count; ++i) x[i] = static_cast<T>(low + (high - low) * i / (count - 1));
  s6::apply(function, x.data(), result.data(), count);
  double worst = 0.0;
  for (int64_t i = 0; i < count; ++i) {
    const double want = exact(static_cast<double>(x[i]));
    worst = std::max(worst, std::abs(static_cast<double>(result[i]) - want) / want);
  }
  return worst;
}

double softplus(double x) { return x > 20.0 ? x : std::log1p(std::exp(x)); }
double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

void check_exponential() {
  // One reduced range: polynomial and rounding, at most 1.2 units in the last place (6e-8 is half a unit).
  EXPECT_LE(worst_relative_error<float>(s6::Function::kExp2, -0.5, 0.5, [](double x) { return std::exp2(x); }), 1.0e-7);
  EXPECT_LE(worst_relative_error<double>(s6::Function::kExp2, -0.5, 0.5, [](double x) { return std::exp2(x); }), 3e-16);
  // All of them: every power of two that is a normal number.
  EXPECT_LE(worst_relative_error<float>(s6::Function::kExp2, -125.0, 127.0, [](double x) { return std::exp2(x); }),
            1.0e-7);
  EXPECT_LE(worst_relative_error<float>(s6::Function::kExp, -87.0, 88.0, [](double x) { return std::exp(x); }), 1.5e-7);
  EXPECT_LE(worst_relative_error<double>(s6::Function::kExp, -700.0, 700.0, [](double x) { return std::exp(x); }),
            4e-16);
  // Near zero, where the error of a slowly decaying state would accumulate: the decay itself, 1 - e^x, is right.
  std::vector<float> x, result(1000);
  for (int i = 0; i < 1000; ++i) x.push_back(-1e-6f * static_cast<float>(i));
  s6::apply(s6::Function::kExp2, x.data(), result.data(), 1000);
  EXPECT_EQ(result[0], 1.0f);
  for (int i = 0; i < 1000; ++i) EXPECT_NEAR(result[i], std::exp2(static_cast<double>(x[i])), 3.1e-8);
}

TEST(SelectiveScanMath, Exponential) { for_each_instruction_set(check_exponential); }

void check_extremes_and_nan() {
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {-infinity, -200.0f, 200.0f, infinity, std::numeric_limits<float>::quiet_NaN()};
  std::vector<float> result(x.size());
  s6::apply(s6::Function::kExp, x.data(), result.data(), 5);
  EXPECT_LE(result[0], 2e-38f);
  EXPECT_LE(result[1], 2e-38f);
  EXPECT_GE(result[2], 1e38f);
  EXPECT_GE(result[3], 1e38f);
  EXPECT_TRUE(std::isnan(result[4]));
  s6::apply(s6::Function::kSigmoid, x.data(), result.data(), 5);
  EXPECT_NEAR(result[0], 0.0f, 1e-37f);
  EXPECT_EQ(result[3], 1.0f);
  EXPECT_TRUE(std::isnan(result[4]));
  s6::apply(s6::Function::kSoftplus, x.data(), result.data(), 5);
  EXPECT_NEAR(result[0], 0.0f, 1e-37f);
  EXPECT_EQ(result[2], 200.0f);
  EXPECT_EQ(result[3], infinity);
  EXPECT_TRUE(std::isnan(result[4]));
}

TEST(SelectiveScanMath, ExtremesAndNaN) { for_each_instruction_set(check_extremes_and_nan); }

void check_softplus_and_sigmoid() {
  EXPECT_LE(worst_relative_error<float>(s6::Function::kSoftplus, -80.0, 40.0, softplus), 3e-7);
  EXPECT_LE(worst_relative_error<double>(s6::Function::kSoftplus, -600.0, 40.0, softplus), 8e-16);
  EXPECT_LE(worst_relative_error<float>(s6::Function::kSigmoid, -80.0, 40.0, sigmoid), 3e-7);
  EXPECT_LE(worst_relative_error<double>(s6::Function::kSigmoid, -600.0, 40.0, sigmoid), 8e-16);
  // Above the threshold softplus is the identity, in float64 a visible difference.
  const double x = 20.5;
  double y = 0.0;
  s6::apply(s6::Function::kSoftplus, &x, &y, 1);
  EXPECT_EQ(y, x);
}

TEST(SelectiveScanMath, SoftplusAndSigmoid) { for_each_instruction_set(check_softplus_and_sigmoid); }

// A scalar that counts: the plain loops must accept it, for the declared cost of the layer.
struct Counted {
  Counted(double v = 0.0) : value(v) {}
  double value;
  static inline int64_t operations = 0;
  static Counted of(double v) { return ++operations, Counted(v); }
  friend Counted operator+(Counted a, Counted b) { return of(a.value + b.value); }
  friend Counted operator-(Counted a, Counted b) { return of(a.value - b.value); }
  friend Counted operator*(Counted a, Counted b) { return of(a.value * b.value); }
  friend Counted operator/(Counted a, Counted b) { return of(a.value / b.value); }
  friend bool operator>(Counted a, Counted b) { return a.value > b.value; }
  friend Counted exp(Counted a) { return of(std::exp(a.value)); }
  friend Counted log1p(Counted a) { return of(std::log1p(a.value)); }
};

TEST(SelectiveScan, ReferenceCountsOperations) {
  const int64_t D = 3, L = 5, N = 4;
  std::vector<Counted> u(D * L, 0.5), delta(D * L, 0.1), A(D * N, -1.0), B(L * N, 0.3), C(L * N, 0.7), y(D * L),
      h(D * N);
  s6::Params<Counted> p;
  p.batch = 1, p.channels = D, p.length = L, p.states = N;
  p.u = {u.data(), D * L, D}, p.delta = {delta.data(), D * L, D};
  p.A = A.data(), p.B = {B.data(), L * N, L * N, N}, p.C = {C.data(), L * N, L * N, N};
  p.y = y.data(), p.last_state = h.data();
  Counted::operations = 0;
  s6::selective_scan_reference(p);
  EXPECT_EQ(Counted::operations, D * L * (1 + 7 * N));  // delta u; delta A, exp, abar h, + , B, C h, +
  std::vector<Counted> dy(D * L, 1.0), du(D * L), ddelta(D * L), dA(D * N), dB(L * N), dC(L * N);
  s6::Gradients<Counted> g;
  g.y = {dy.data(), D * L, D}, g.u = du.data(), g.delta = ddelta.data(), g.A = dA.data(), g.B = dB.data(),
  g.C = dC.data();
  Counted::operations = 0;
  s6::selective_scan_reference_backward(p, g);
  EXPECT_GT(Counted::operations, D * L * 20 * N);
}

}  // namespace
}  // namespace hippodrome::selective_scan_test
