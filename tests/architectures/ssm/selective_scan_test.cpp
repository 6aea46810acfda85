// The selective scan's numbers: golden vector, fused against reference, gradients against differences, operations
// counted. What callers rely on beside them is in selective_scan_contract_test.cpp.
#include "architectures/ssm/selective_scan/selective_scan.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <string>
#include <vector>

#include "architectures/ssm/selective_scan/reference.h"
#include "tests/architectures/op_checks.h"
#include "tests/architectures/ssm/selective_scan_cases.h"

namespace hippodrome::selective_scan_test {
namespace {

void expect_float_as_good_as_plain(const Shape& s, int options, const Results& want) {
  const Arguments a = make_arguments(s, options, at::kFloat);
  const Results got = run(a, false), plain = run(a, true);
  const std::string what = describe(s, options) + " float";
  expect_as_good_as_plain(got, plain, want, /*few=*/3, what);
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

TEST(SelectiveScan, ComplexAndZeroOrderHoldEqualReference) {
  for (const int mode : {kComplex + 0, kHold + 0, kComplex | kHold}) {
    for (const int options : {kAll | mode, mode, (kAll & ~kPositions) | mode}) {
      for (const Shape& s :
           {Shape{2, 6, 1, 4, 2}, Shape{2, 17, 3, 2, 1}, Shape{1, 70, 130, 6, 1}, Shape{2, 6, 65, 8, 2}}) {
        const Results want = run(make_arguments(s, options), true);
        expect_close(run(make_arguments(s, options), false), want, 1e-12, 1e-12, describe(s, options));
        expect_close(run(make_arguments(s, options), false, false), {want.y, want.last_state, {}}, 1e-12, 0.0,
                     "inference");
        expect_float_as_good_as_plain(s, options, want);
      }
    }
  }
}

// One complex state by hand: abar = e^z, z = delta A; y = 2 Re(C h).
TEST(SelectiveScan, ComplexStateByHand) {
  Arguments a;
  a.u = at::tensor({2.0, -1.0}, at::kDouble).view({1, 1, 2});
  a.delta = at::tensor({0.5, 0.25}, at::kDouble).view({1, 1, 2});
  a.A = at::tensor({-0.5, 3.0}, at::kDouble).view({1, 2});
  a.B = at::tensor({1.0, 0.5, -2.0, 1.5}, at::kDouble).view({1, 2, 2});  // real parts over time, then imaginary ones
  a.C = at::tensor({0.7, 0.2, 0.1, -0.9}, at::kDouble).view({1, 2, 2});
  a.complex = true;
  using Complex = std::complex<double>;
  const Complex A(-0.5, 3.0), B[] = {{1.0, -2.0}, {0.5, 1.5}}, C[] = {{0.7, 0.1}, {0.2, -0.9}};
  for (const bool hold : {false, true}) {
    a.zero_order_hold = hold;
    Complex h = 0.0;
    for (const bool reference : {false, true}) {
      const Results r = run(a, reference);
      h = 0.0;
      for (int t = 0; t < 2; ++t) {
        const double delta = t == 0 ? 0.5 : 0.25, u = t == 0 ? 2.0 : -1.0;
        h = std::exp(delta * A) * h + (hold ? (std::exp(delta * A) - 1.0) / A : Complex(delta)) * B[t] * u;
        EXPECT_NEAR(r.y[0][0][t].item<double>(), 2.0 * (C[t] * h).real(), 1e-13) << hold << reference << t;
      }
      EXPECT_NEAR(r.last_state[0][0][0].item<double>(), h.real(), 1e-13);
      EXPECT_NEAR(r.last_state[0][0][1].item<double>(), h.imag(), 1e-13);
    }
  }
}

// Zero-order hold of slow states: phi and its derivative by A are differences of nearly equal numbers.
TEST(SelectiveScan, ZeroOrderHoldOfSlowStates) {
  for (const int mode : {kHold + 0, kHold | kComplex}) {
    const Shape s{1, 20, 300, 4, 1};
    Arguments a = make_arguments(s, kSoftplus | mode);
    a.A = a.A.mul(1e-3).clone();
    for (Tensor* t : floating_inputs(a)) *t = t->to(at::kFloat).to(at::kDouble);
    const Results want = run(a, true);
    expect_close(run(a, false), want, 1e-12, 1e-11, "slow, double");
    for (Tensor* t : floating_inputs(a)) *t = t->to(at::kFloat);
    expect_close(run(a, false), want, 2e-6, 3e-6, "slow, float");
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
  for (const int options : {static_cast<int>(kPlain), kAll & ~kPositions, static_cast<int>(kAll), kAll | kComplex,
                            kAll | kHold, kAll | kComplex | kHold}) {
    const Shape s{2, 4, 14, 4, 2};
    Arguments a = make_arguments(s, options);
    const variable_list gradients = run(a, true).gradients;
    const std::vector<Tensor*> inputs = floating_inputs(a);
    for (size_t i = 0; i < inputs.size(); ++i) {
      *inputs[i] = inputs[i]->clone();  // dense, so that its storage can be walked
      const Tensor differences = op_checks::central_differences(*inputs[i], 1e-5, [&] { return weighted_sum(a); });
      EXPECT_LE(op_checks::farthest(gradients[i], differences), options & kComplex ? 1e-6 : 1e-8)
          << "options " << options << ", input " << i;
    }
  }
}

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
  friend Counted expm1(Counted a) { return of(std::expm1(a.value)); }
  friend Counted sin(Counted a) { return of(std::sin(a.value)); }
  friend Counted cos(Counted a) { return of(std::cos(a.value)); }
  friend bool operator<(Counted a, Counted b) { return a.value < b.value; }
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
