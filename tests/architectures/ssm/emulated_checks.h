// What the tests of emulated CUDA kernels that have a reference share.
#pragma once

#include <algorithm>
#include <functional>
#include <string>

#include "tests/architectures/recurrent/scan_checks.h"

namespace hippodrome::scan_checks {

// Outputs and gradients by emulated kernels, through their binding, for inputs and cotangents.
using Emulated = std::function<Evaluation(const Tensors& in, const Tensors& cotangents)>;

// Error of gradients in float64 and in float32, the largest so far.
struct WorstErrors {
  double in_double = 0.0, in_float = 0.0;
  void record() const {
    ::testing::Test::RecordProperty("worst_relative_error_of_gradients",
                                    ::testing::PrintToString(std::make_pair(in_double, in_float)));
  }
};

// In float64 the numbers of the plain loops, up to their order; in float32 as exact as those, within these factors
// (expect_lawful).
inline void expect_emulated_equals(const Op& plain, const Emulated& run, const Tensors& in, double output_factor,
                                   double gradient_factor, const std::string& label, WorstErrors& worst) {
  const Tensors cotangents = random_like(plain(in));
  const Evaluation exact = evaluate(plain, in, cotangents), mine = run(in, cotangents);
  expect_close(mine.outputs, exact.outputs, 1e-12, "double outputs " + label);
  expect_close(mine.gradients, exact.gradients, 1e-11, "double gradients " + label);
  const Tensors in_float = cast(in, at::kFloat), cotangents_float = cast(cotangents, at::kFloat);
  const Evaluation rounded = evaluate(plain, cast(in_float, at::kDouble), cast(cotangents_float, at::kDouble));
  const Evaluation loops = evaluate(plain, in_float, cotangents_float), fast = run(in_float, cotangents_float);
  expect_lawful(fast.outputs, loops.outputs, rounded.outputs, output_factor, "float outputs " + label);
  expect_lawful(fast.gradients, loops.gradients, rounded.gradients, gradient_factor, "float gradients " + label);
  for (size_t i = 0; i < exact.gradients.size(); ++i) {
    worst.in_double = std::max(worst.in_double, relative_error(mine.gradients[i], exact.gradients[i]));
    worst.in_float = std::max(worst.in_float, relative_error(fast.gradients[i], rounded.gradients[i]));
  }
}

}  // namespace hippodrome::scan_checks
