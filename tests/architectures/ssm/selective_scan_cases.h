// Arguments, runs and comparisons shared by the tests of the selective scan.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "architectures/ssm/selective_scan/op.h"
#include "architectures/ssm/selective_scan/selective_scan.h"
#include "hwy/targets.h"

namespace hippodrome::selective_scan_test {

using at::Tensor;
using Arguments = SelectiveScanArguments;
using torch::autograd::variable_list;

// Uniform in [low, high), the same for the same seed.
inline Tensor uniform(at::IntArrayRef sizes, uint64_t seed, double low = -1.0, double high = 1.0) {
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

enum Option {
  kPlain = 0,
  kSkip = 1,
  kGate = 2,
  kBias = 4,
  kSoftplus = 8,
  kState = 16,
  kPositions = 32,
  kAll = 63,
  kComplex = 64,
  kHold = 128
};

// Padding at both ends of the rows and inside, and sequences that start in mid-chunk.
inline Tensor awkward_positions(int64_t batch, int64_t length) {
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
inline Tensor transposed(at::IntArrayRef batch_length_channels, uint64_t seed, double low = -1.0, double high = 1.0) {
  return uniform(batch_length_channels, seed, low, high).transpose(1, 2);
}

inline Arguments make_arguments(const Shape& s, int options, at::ScalarType dtype = at::kDouble) {
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
  a.complex = options & kComplex;
  a.zero_order_hold = options & kHold;
  if (a.complex) a.A.slice(1, s.states / 2).mul_(-3.0);  // imaginary parts of either size
  if (options & kState) a.initial_state = uniform({s.batch, s.channels, s.states}, 9);
  if (options & kPositions) a.positions = awkward_positions(s.batch, s.length);
  for (Tensor* t : {&a.u, &a.delta, &a.A, &a.B, &a.C}) *t = t->to(dtype);
  for (auto* t : {&a.D, &a.z, &a.delta_bias, &a.initial_state}) {
    if (t->has_value()) *t = (*t)->to(dtype);
  }
  return a;
}

inline std::vector<Tensor*> floating_inputs(Arguments& a) {
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
inline Results run(Arguments a, bool reference, bool gradients = true) {
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

inline double rms(const Tensor& t) {
  return t.numel() == 0 ? 0.0 : t.to(at::kDouble).pow(2).mean().sqrt().item<double>();
}

// Root mean square of the difference over that of `want`.
inline double relative_error(const Tensor& got, const Tensor& want) {
  EXPECT_EQ(got.sizes(), want.sizes());
  const double error = rms(got.to(at::kDouble) - want.to(at::kDouble));
  return error == 0.0 ? 0.0 : error / std::max(rms(want), 1e-30);
}

inline std::string describe(const Shape& s, int options) {
  return "L " + std::to_string(s.length) + " D " + std::to_string(s.channels) + " N " + std::to_string(s.states) +
         " G " + std::to_string(s.groups) + " options " + std::to_string(options);
}

inline void expect_close(const Results& got, const Results& want, double forward, double backward,
                         const std::string& what) {
  EXPECT_LE(relative_error(got.y, want.y), forward) << what;
  EXPECT_LE(relative_error(got.last_state, want.last_state), forward) << what;
  ASSERT_EQ(got.gradients.size(), want.gradients.size());
  for (size_t i = 0; i < got.gradients.size(); ++i) {
    EXPECT_LE(relative_error(got.gradients[i], want.gradients[i]), backward) << what << ", gradient " << i;
  }
}

// The house rule for float32: within 2x (forward) and 3x (backward) of the error of plain float32 loops, or a fixed
// floor. Sums that cancel (a bias gradient of one channel) make the plain loops' error large, too. The error of fewer
// than `few` sums is luck; of many, a root mean square.
inline void expect_as_good_as_plain(const Results& got, const Results& plain, const Results& want, int64_t few,
                                    const std::string& what) {
  const auto within = [&](const Tensor& ours, const Tensor& theirs, const Tensor& exact, double floor, double factor) {
    EXPECT_LE(relative_error(ours, exact), std::max(floor, factor * relative_error(theirs, exact))) << what;
  };
  within(got.y, plain.y, want.y, 1e-6, 2);
  within(got.last_state, plain.last_state, want.last_state, 1e-6, 2);
  for (size_t i = 0; i < got.gradients.size(); ++i) {
    SCOPED_TRACE("gradient " + std::to_string(i));
    within(got.gradients[i], plain.gradients[i], want.gradients[i], want.gradients[i].numel() < few ? 2e-5 : 2e-6, 3);
  }
}

// A meta tensor as it would be with numbers.
inline void expect_same_layout(const Tensor& got, const Tensor& want) {
  EXPECT_TRUE(got.is_meta());
  EXPECT_EQ(got.sizes(), want.sizes());
  EXPECT_EQ(got.strides(), want.strides());
  EXPECT_EQ(got.scalar_type(), want.scalar_type());
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

}  // namespace hippodrome::selective_scan_test
