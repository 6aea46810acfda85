// What the tests of the CUDA convolutions share.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <cstdint>
#include <random>

namespace hippodrome::convolution_checks {

using at::Tensor;

// float64 that float32 holds exactly.
inline Tensor random_normal(at::IntArrayRef shape, uint64_t seed) {
  Tensor result = at::empty(shape, at::kDouble);
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  for (int64_t i = 0; i < result.numel(); ++i)
    result.mutable_data_ptr<double>()[i] = static_cast<float>(normal(engine));
  return result;
}

inline double relative_error(const Tensor& value, const Tensor& expected) {
  const Tensor x = value.to(at::kDouble), e = expected.to(at::kDouble);
  if (e.numel() == 0) return x.numel() == 0 ? 0 : 1;
  return x.sub(e).norm().item<double>() / (e.norm().item<double>() + 1e-30);
}

}  // namespace hippodrome::convolution_checks
