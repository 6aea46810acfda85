// What the tests of the scans over complex modes (diagonal_scan, dplr_scan) share. Their inputs are u [B, D, L], the
// parameters [D, …] and, where there is one, the state; their outputs y and the last state.
#pragma once

#include <ATen/ops/zeros_like.h>

#include <functional>
#include <limits>
#include <string>

#include "tests/architectures/ssm/emulated_checks.h"

namespace hippodrome::mode_scan_checks {

using namespace scan_checks;  // NOLINT: the same for these scans

// The operator, or its reference, with these positions or, undefined, none.
using OpOf = std::function<Op(bool reference, const at::Tensor& positions)>;

// ---- the CPU's operator ----

// Gradients of y alone and of the last state alone; autograd then gives none for the other.
inline void expect_gradients_of_either_output(const Op& op, const Tensors& in) {
  const Tensors cotangents = random_like(op(in));
  const Evaluation y = evaluate(op, in, {cotangents[0], at::zeros_like(cotangents[1])});
  const Evaluation state = evaluate(op, in, {at::zeros_like(cotangents[0]), cotangents[1]});
  for (const size_t output : {0, 1}) {
    const Op alone = [&](const Tensors& t) -> Tensors { return {op(t)[output]}; };
    expect_same_bits(evaluate(alone, in, {cotangents[output]}).gradients, (output == 0 ? y : state).gradients,
                     "output " + std::to_string(output));
  }
}

inline Tensors in_other_layouts(const Tensors& in) {
  Tensors strided = in;
  strided[0] = in[0].contiguous();
  strided[1] = in[1].transpose(0, 1).contiguous().transpose(0, 1);
  return strided;
}
inline void expect_any_layout(const Op& op, const Tensors& in) {
  const Tensors out = op(in);
  expect_same_bits(op(in_other_layouts(in)), out, "strided");
  EXPECT_TRUE(out[0].transpose(1, 2).is_contiguous());
}

inline void expect_double_backward_raises(const OpOf& op, Tensors in) {
  for (const bool reference : {false, true}) {
    in[0] = in[0].detach().set_requires_grad(true);
    const Tensors first = torch::autograd::grad({op(reference, {})(in)[0].square().sum()}, {in[0]}, {}, true, true);
    EXPECT_THROW(torch::autograd::grad({first[0].sum()}, {in[0]}), c10::Error);
  }
}

// `in` are meta tensors.
inline void expect_shapes_of_meta_tensors(const OpOf& op, Tensors in, int64_t states) {
  for (const bool reference : {false, true}) {
    in[0] = in[0].detach().set_requires_grad(true);
    const Tensors out = op(reference, {})(in);
    EXPECT_EQ(out[0].sizes(), in[0].sizes());
    EXPECT_TRUE(out[0].transpose(1, 2).is_contiguous());
    EXPECT_EQ(out[1].sizes(), at::IntArrayRef({in[0].size(0), in[0].size(1), states, 2}));
    EXPECT_EQ(torch::autograd::grad({out[0].sum()}, {in[0]})[0].sizes(), in[0].sizes());
  }
}

// ---- emulated CUDA kernels ----

using EmulatedWith =
    std::function<Evaluation(const Tensors& in, const at::Tensor& positions, const Tensors& cotangents)>;

// For one shape without a state, with one, and with positions too; make(whether there is a state) are the inputs.
inline void expect_emulated_equals_in_all_variants(const OpOf& op, const EmulatedWith& run,
                                                   const std::function<Tensors(bool state)>& make,
                                                   const std::string& label, WorstErrors& worst) {
  for (const int variant : {0, 1, 2}) {
    const Tensors in = make(variant > 0);
    const at::Tensor positions = variant == 2 ? mixed_positions(in[0].size(0), in[0].size(2)) : at::Tensor();
    expect_emulated_equals(
        op(true, positions), [&](const Tensors& t, const Tensors& cotangents) { return run(t, positions, cotangents); },
        in, 2, 3, label + ", variant " + std::to_string(variant), worst);
  }
}

// `in` holds a state, and is longer than a few tokens.
inline void expect_emulated_takes_any_layout_and_empty_inputs(const OpOf& op, const EmulatedWith& run,
                                                              const Tensors& in) {
  const int64_t batch = in[0].size(0), length = in[0].size(2);
  const Tensors cotangents = random_like(op(true, {})(in));
  const Evaluation a = run(in, {}, cotangents);
  Tensors strided = in_other_layouts(in);
  expect_same_bits(run(strided, {}, cotangents).gradients, a.gradients, "strided");
  strided[0] = at::cat({in[0], in[0]}, 2).transpose(1, 2).contiguous().transpose(1, 2).slice(2, length, 2 * length);
  expect_same_bits(run(strided, {}, cotangents).outputs, a.outputs, "part of a longer row");
  EXPECT_TRUE(a.outputs[0].transpose(1, 2).is_contiguous());
  const at::Tensor no_y = at::zeros_like(cotangents[0]), no_state = at::zeros_like(cotangents[1]);
  expect_same_bits(run(in, {}, {at::Tensor(), cotangents[1]}).gradients, run(in, {}, {no_y, cotangents[1]}).gradients,
                   "the last state's gradient alone");
  expect_same_bits(run(in, {}, {cotangents[0], at::Tensor()}).gradients,
                   run(in, {}, {cotangents[0], no_state}).gradients, "y's gradient alone");
  Tensors none = in;
  none[0] = in[0].slice(2, 0, 0);
  const Evaluation still = run(none, {}, {cotangents[0].slice(2, 0, 0), cotangents[1]});
  expect_same_bits({still.outputs[1], still.gradients.back()}, {in.back(), cotangents[1]}, "no token");
  for (size_t i = 1; i + 1 < in.size(); ++i) EXPECT_EQ(rms(still.gradients[i]), 0.0) << i;
  none[0] = in[0].slice(0, 0, 0);
  none.back() = in.back().slice(0, 0, 0);
  const Evaluation nobody = run(none, {}, {cotangents[0].slice(0, 0, 0), cotangents[1].slice(0, 0, 0)});
  EXPECT_EQ(nobody.outputs[0].sizes(), none[0].sizes());
  EXPECT_EQ(rms(nobody.gradients[1]), 0.0);
  // What stands at padding is not read into anything.
  const at::Tensor positions = mixed_positions(batch, length);
  Tensors poisoned = in;
  poisoned[0] = in[0].masked_fill(positions.lt(0).unsqueeze(1), std::numeric_limits<double>::quiet_NaN());
  expect_same_bits(run(poisoned, positions, cotangents).gradients, run(in, positions, cotangents).gradients, "padding");
}

}  // namespace hippodrome::mode_scan_checks
