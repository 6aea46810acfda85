// What the tests of operators share, whatever the operator: numbers, how far two tensors are apart, memory that shows.
#pragma once

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <random>

namespace hippodrome::op_checks {

// float64 that float32 holds exactly, so that both precisions see the same problem.
inline at::Tensor random_normal(at::IntArrayRef shape, uint64_t seed) {
  at::Tensor result = at::empty(shape, at::kDouble);
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  double* data = result.mutable_data_ptr<double>();
  for (int64_t i = 0; i < result.numel(); ++i) data[i] = static_cast<float>(normal(engine));
  return result;
}

// Root mean square of the difference over that of `expected`; 1 where there should be no number and there is.
inline double relative_error(const at::Tensor& value, const at::Tensor& expected) {
  const at::Tensor x = value.to(at::kDouble), e = expected.to(at::kDouble);
  if (e.numel() == 0) return x.numel() == 0 ? 0 : 1;
  return x.sub(e).norm().item<double>() / (e.norm().item<double>() + 1e-30);
}

// d loss / d x by central differences, element by element, of float64 without gaps that `loss` reads where it is.
template <class Loss>
at::Tensor central_differences(at::Tensor& x, double step, const Loss& loss) {
  at::Tensor result = at::empty_like(x);
  double *values = x.mutable_data_ptr<double>(), *differences = result.mutable_data_ptr<double>();
  for (int64_t i = 0; i < x.numel(); ++i) {
    const double kept = values[i];
    values[i] = kept + step;
    const double above = loss();
    values[i] = kept - step;
    const double below = loss();
    values[i] = kept;
    differences[i] = (above - below) / (2 * step);
  }
  return result;
}

inline double farthest(const at::Tensor& a, const at::Tensor& b) { return a.sub(b).abs().max().item<double>(); }

// A kernel may read only what it wrote: memory handed out by `empty` holds NaN here.
class EmptyIsNan : public ::testing::Test {
 protected:
  void SetUp() override { at::globalContext().setDeterministicAlgorithms(true, false); }
  void TearDown() override { at::globalContext().setDeterministicAlgorithms(false, false); }
};

}  // namespace hippodrome::op_checks
