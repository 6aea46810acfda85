// What the tests of sequence ops share: an op as a function of tensors, its gradients, and the ways to compare them.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randn_like.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace hippodrome::scan_checks {

using Tensors = std::vector<at::Tensor>;
using Op = std::function<Tensors(const Tensors&)>;

struct Evaluation {
  Tensors outputs;
  Tensors gradients;  // of the sum of outputs · cotangents, one per input
};

// LibTorch's own seed changes with every process; the tests' numbers must not.
inline void seed() {
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  generator.set_current_seed(7);
}

inline Tensors cast(const Tensors& tensors, at::ScalarType dtype) {
  Tensors result;
  for (const auto& t : tensors) result.push_back(t.is_floating_point() ? t.to(dtype) : t);
  return result;
}

inline Tensors random_like(const Tensors& tensors) {
  Tensors result;
  for (const auto& t : tensors) result.push_back(at::randn(t.sizes(), t.options().dtype(at::kDouble)).to(t.dtype()));
  return result;
}

inline Evaluation evaluate(const Op& op, const Tensors& inputs, const Tensors& cotangents) {
  Tensors leaves;
  for (const auto& t : inputs) leaves.push_back(t.detach().set_requires_grad(true));
  Evaluation result{op(leaves), {}};
  result.gradients = torch::autograd::grad(result.outputs, leaves, cast(cotangents, cotangents[0].scalar_type()));
  for (auto& t : result.outputs) t = t.detach();
  return result;
}

inline double rms(const at::Tensor& t) {
  return t.numel() == 0 ? 0.0 : std::sqrt(t.to(at::kDouble).square().mean().item<double>());
}

// Root mean square of the error over that of the exact values. A few numbers can cancel to almost nothing by chance, so
// for fewer than 16 the scale is at least 1, the size of the tests' inputs.
inline double relative_error(const at::Tensor& a, const at::Tensor& exact) {
  return rms(a.to(at::kDouble).sub(exact.to(at::kDouble))) / std::max(rms(exact), exact.numel() < 16 ? 1.0 : 1e-30);
}

inline void expect_close(const Tensors& a, const Tensors& b, double tolerance, const std::string& what) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(a[i].sizes(), b[i].sizes()) << what << ", tensor " << i;
    if (rms(b[i]) == 0.0) {
      EXPECT_EQ(rms(a[i]), 0.0) << what << ", tensor " << i;
    } else {
      EXPECT_LE(relative_error(a[i], b[i]), tolerance) << what << ", tensor " << i;
    }
  }
}

inline void expect_same_bits(const Tensors& a, const Tensors& b, const std::string& what) {
  for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(a[i].equal(b[i])) << what << ", tensor " << i;
}

// The law of fast kernels: error against float64 at most `factor` times that of the plain loops in the same dtype, or
// 1e-6. Fewer than 16 numbers are no statistic (the plain loops can be right by luck): there the floor is 1e-4.
inline void expect_lawful(const Tensors& fused, const Tensors& plain, const Tensors& exact, double factor,
                          const std::string& what) {
  for (size_t i = 0; i < fused.size(); ++i) {
    ASSERT_EQ(fused[i].sizes(), exact[i].sizes()) << what << ", tensor " << i;
    if (exact[i].numel() == 0) continue;
    if (rms(exact[i]) == 0.0) {
      EXPECT_EQ(rms(fused[i]), 0.0) << what << ", tensor " << i;
      continue;
    }
    const double floor = exact[i].numel() < 16 ? 1e-4 : 1e-6;
    EXPECT_LE(relative_error(fused[i], exact[i]), std::max(floor, factor * relative_error(plain[i], exact[i])))
        << what << ", tensor " << i;
  }
}

// How near a fused op is to the plain loops: in float64 by itself, in float32 by factors on their error
// (expect_lawful).
struct Nearness {
  double outputs = 1e-13, gradients = 1e-12;
  double output_factor = 2, gradient_factor = 3;
};

// The fused op against the plain loops in float64, with autograd and without, and in float32 under the law of fast
// kernels.
inline void expect_fused_matches(const Op& fused_op, const Op& plain_op, const Tensors& in, const std::string& label,
                                 const Nearness& near = {}) {
  const Tensors cotangents = random_like(fused_op(in));
  const Evaluation exact = evaluate(plain_op, in, cotangents);
  const Evaluation fused = evaluate(fused_op, in, cotangents);
  expect_close(fused.outputs, exact.outputs, near.outputs, "double outputs " + label);
  expect_close(fused_op(in), exact.outputs, near.outputs, "double outputs without autograd " + label);
  expect_close(fused.gradients, exact.gradients, near.gradients, "double gradients " + label);
  const Tensors in_float = cast(in, at::kFloat), cotangents_float = cast(cotangents, at::kFloat);
  const Evaluation rounded = evaluate(plain_op, cast(in_float, at::kDouble), cast(cotangents_float, at::kDouble));
  const Evaluation plain = evaluate(plain_op, in_float, cotangents_float);
  const Evaluation fast = evaluate(fused_op, in_float, cotangents_float);
  expect_lawful(fast.outputs, plain.outputs, rounded.outputs, near.output_factor, "float outputs " + label);
  expect_lawful(fast.gradients, plain.gradients, rounded.gradients, near.gradient_factor, "float gradients " + label);
}

// Directional derivatives in float64 by central differences, along random directions, one input at a time.
inline void expect_gradients_match_differences(const Op& op, const Tensors& inputs, double tolerance = 1e-7) {
  const Tensors cotangents = random_like(op(inputs));
  const auto value = [&](const Tensors& at_inputs) {
    const Tensors outputs = op(at_inputs);
    double sum = 0;
    for (size_t i = 0; i < outputs.size(); ++i) sum += outputs[i].mul(cotangents[i]).sum().item<double>();
    return sum;
  };
  const Evaluation e = evaluate(op, inputs, cotangents);
  for (size_t i = 0; i < inputs.size(); ++i) {
    for (int trial = 0; trial < 3; ++trial) {
      const at::Tensor direction = at::randn_like(inputs[i]);
      const double step = 1e-5;
      Tensors up = inputs, down = inputs;
      up[i] = inputs[i].add(direction, step);
      down[i] = inputs[i].sub(direction, step);
      const double measured = (value(up) - value(down)) / (2 * step);
      const double claimed = e.gradients[i].mul(direction).sum().item<double>();
      EXPECT_NEAR(claimed, measured, tolerance * (1.0 + std::abs(measured)) * 10) << "input " << i;
    }
  }
}

// A number that counts the products and sums made with it, as the cost law counts on the reference paths.
struct Counted {
  double value = 0;
  static inline int64_t operations = 0;
  Counted() = default;
  explicit Counted(double v) : value(v) {}
  friend Counted operator+(Counted a, Counted b) { return count(a.value + b.value); }
  friend Counted operator-(Counted a, Counted b) { return count(a.value - b.value); }
  friend Counted operator*(Counted a, Counted b) { return count(a.value * b.value); }
  friend Counted operator/(Counted a, Counted b) { return count(a.value / b.value); }
  friend Counted operator-(Counted a) { return Counted(-a.value); }
  friend Counted exp(Counted a) { return count(std::exp(a.value)); }
  friend Counted tanh(Counted a) { return count(std::tanh(a.value)); }

 private:
  static Counted count(double v) {
    ++operations;
    return Counted(v);
  }
};

// Runs `body` under that many LibTorch threads and restores the number there was.
inline void with_threads(int threads, const std::function<void()>& body) {
  const int before = at::get_num_threads();
  at::set_num_threads(threads);
  body();
  at::set_num_threads(before);
}

// The bits depend neither on the number of threads nor on the run.
inline void expect_same_bits_for_any_threads(const Op& op, const Tensors& in) {
  const Tensors cotangents = random_like(op(in));
  Evaluation one, two, again;
  with_threads(1, [&] { one = evaluate(op, in, cotangents); });
  with_threads(2, [&] { two = evaluate(op, in, cotangents); });
  with_threads(2, [&] { again = evaluate(op, in, cotangents); });
  expect_same_bits(one.outputs, two.outputs, "outputs, threads");
  expect_same_bits(one.gradients, two.gradients, "gradients, threads");
  expect_same_bits(two.outputs, again.outputs, "outputs, runs");
  expect_same_bits(two.gradients, again.gradients, "gradients, runs");
}

// positions [B, L] that hold padding at the start, in the middle and at the end, and sequences starting anywhere.
inline at::Tensor mixed_positions(int64_t batch, int64_t length) {
  at::Tensor positions = at::empty({batch, length}, at::kLong);
  auto* p = positions.mutable_data_ptr<int64_t>();
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t t = 0; t < length; ++t) {
      int64_t value = t + 1;
      if ((7 * t + 3 * b) % 11 == 4 || (b == 1 && t < length / 3) || (b == 2 && t > 2 * length / 3)) value = -1;
      if ((5 * t + b) % 23 == 6) value = 0;
      p[b * length + t] = value;
    }
  }
  return positions;
}

}  // namespace hippodrome::scan_checks
