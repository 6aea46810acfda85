// Shapes and arguments that the tests of SSD share.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "architectures/ssm/ssd/ssd.h"
#include "tests/architectures/ssm/selective_scan_cases.h"

namespace hippodrome::ssd_test {

struct Shape {
  int64_t batch = 2, length = 5, heads = 3, head_size = 4, groups = 1, states = 5, chunk = 256;
};

enum Option {
  kPlain = 0,
  kSkip = 1,
  kGate = 2,
  kBias = 4,
  kSoftplus = 8,
  kState = 16,
  kPositions = 32,
  kLimits = 64,
  kAll = 127
};

inline SsdArguments make_arguments(const Shape& s, int options, at::ScalarType dtype = at::kDouble) {
  using selective_scan_test::uniform;
  SsdArguments a;
  const bool softplus = options & kSoftplus;
  a.x = uniform({s.batch, s.length, s.heads, s.head_size}, 1);
  a.dt = uniform({s.batch, s.length, s.heads}, 2, softplus ? -3.0 : 0.01, softplus ? 1.0 : 0.4);
  a.A = uniform({s.heads}, 3, -2.0, -0.05);
  a.B = uniform({s.batch, s.length, s.groups, s.states}, 4);
  a.C = uniform({s.batch, s.length, s.groups, s.states}, 5);
  if (options & kSkip) a.D = uniform({s.heads}, 6);
  if (options & kGate) a.z = uniform({s.batch, s.length, s.heads, s.head_size}, 7, -3.0, 3.0);
  if (options & kBias) a.dt_bias = uniform({s.heads}, 8, 0.0, 0.2);
  a.dt_softplus = softplus;
  if (options & kLimits) a.dt_low = 0.1, a.dt_high = 0.5;
  if (options & kState) a.initial_state = uniform({s.batch, s.heads, s.head_size, s.states}, 9);
  if (options & kPositions) a.positions = selective_scan_test::awkward_positions(s.batch, s.length);
  a.chunk = s.chunk;
  for (at::Tensor* t : {&a.x, &a.dt, &a.A, &a.B, &a.C}) *t = t->to(dtype);
  for (auto* t : {&a.D, &a.z, &a.dt_bias, &a.initial_state}) {
    if (t->has_value()) *t = (*t)->to(dtype);
  }
  return a;
}

// The tensors of x, dt, A, B, C and, where given, D, z, dt_bias, initial_state.
inline std::vector<at::Tensor*> floating_inputs(SsdArguments& a) {
  std::vector<at::Tensor*> inputs = {&a.x, &a.dt, &a.A, &a.B, &a.C};
  for (auto* t : {&a.D, &a.z, &a.dt_bias, &a.initial_state}) {
    if (t->has_value()) inputs.push_back(&**t);
  }
  return inputs;
}

}  // namespace hippodrome::ssd_test
