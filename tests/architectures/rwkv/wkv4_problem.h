// What the tests of wkv4 share: inputs of many kinds, and all outputs and gradients of a call.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/autograd.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "architectures/rwkv/wkv4/wkv4.h"
#include "tests/architectures/op_checks.h"

namespace hippodrome::wkv4_test {

using at::Tensor;
using MaybeTensor = std::optional<Tensor>;
using op_checks::random_normal;

inline double relative_rms(const Tensor& value, const Tensor& expected) {
  return op_checks::relative_error(value, expected);
}

inline bool same_bits(const Tensor& a, const Tensor& b) { return a.equal(b); }

// Rows of different character: padding before, inside and behind, sequences that continue and that start in the middle.
inline Tensor uneven_positions(int64_t batch, int64_t time) {
  Tensor positions = at::empty({batch, time}, at::kLong);
  int64_t* p = positions.mutable_data_ptr<int64_t>();
  for (int64_t b = 0; b < batch; ++b) {
    int64_t next = b % 2 == 0 ? 7 : 0;  // even rows continue from the state
    for (int64_t t = 0; t < time; ++t) {
      const bool padding =
          (b % 3 == 1 && t < 2 && time > 2) || (t % 11 == 5 + b % 3) || (b % 3 == 2 && t + 3 >= time && time > 4);
      if (t == time / 2 + b || t == 70) next = 0;
      p[b * time + t] = padding ? -1 : next++;
    }
  }
  return positions;
}

struct Problem {
  Tensor w, u, k, v;
  MaybeTensor state, positions;
  Tensor grad_y, grad_state;

  Problem(int64_t batch, int64_t time, int64_t channels, bool with_state, bool with_positions, uint64_t seed = 1) {
    w = -random_normal({channels}, seed).exp().to(at::kFloat).to(at::kDouble);
    u = random_normal({channels}, seed + 1);
    k = random_normal({batch, time, channels}, seed + 2);
    v = random_normal({batch, time, channels}, seed + 3);
    if (with_state) {
      state = random_normal({batch, 3, channels}, seed + 4);
      state->select(1, 1).abs_().add_(0.5);
    }
    if (with_positions) positions = uneven_positions(batch, time);
    grad_y = random_normal({batch, time, channels}, seed + 5);
    grad_state = random_normal({batch, 3, channels}, seed + 6);
  }
};

// y, last_state and the gradients of w, u, k, v and (where there is one) the state.
inline std::vector<Tensor> run(decltype(wkv4)& op, const Problem& problem, at::ScalarType type,
                               bool grad_state = true) {
  const auto leaf = [&](const Tensor& x) { return x.to(type).clone().requires_grad_(true); };
  std::vector<Tensor> inputs = {leaf(problem.w), leaf(problem.u), leaf(problem.k), leaf(problem.v)};
  MaybeTensor state;
  if (problem.state) inputs.push_back(*(state = leaf(*problem.state)));
  const Wkv4Result out = op(inputs[0], inputs[1], inputs[2], inputs[3], state, problem.positions);
  std::vector<Tensor> outputs = {out.y}, seeds = {problem.grad_y.to(type)};
  if (grad_state) {
    outputs.push_back(out.last_state);
    seeds.push_back(problem.grad_state.to(out.last_state.scalar_type()));
  }
  std::vector<Tensor> result = {out.y.detach(), out.last_state.detach()};
  for (const Tensor& g : torch::autograd::grad(outputs, inputs, seeds)) result.push_back(g);
  return result;
}

inline const char* const kNames[] = {"y", "last_state", "grad w", "grad u", "grad k", "grad v", "grad state"};

}  // namespace hippodrome::wkv4_test
