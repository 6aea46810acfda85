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

inline void expect_fused_equals_reference(const OpOf& op, const Tensors& in, const at::Tensor& positions,
                                          const std::string& label) {
  const Op fused_op = op(false, positions), plain_op = op(true, positions);
  const Tensors cotangents = random_like(fused_op(in));
  const Evaluation exact = evaluate(plain_op, in, cotangents), fused = evaluate(fused_op, in, cotangents);
  expect_close(fused.outputs, exact.outputs, 1e-13, "double outputs " + label);
  expect_close(fused_op(in), exact.outputs, 1e-13, "double outputs without autograd " + label);
  expect_close(fused.gradients, exact.gradients, 1e-12, "double gradients " + label);
  const Tensors in_float = cast(in, at::kFloat), cotangents_float = cast(cotangents, at::kFloat);
  const Evaluation rounded = evaluate(plain_op, cast(in_float, at::kDouble), cast(cotangents_float, at::kDouble));
  const Evaluation plain = evaluate(plain_op, in_float, cotangents_float);
  const Evaluation fast = evaluate(fused_op, in_float, cotangents_float);
  expect_lawful(fast.outputs, plain.outputs, rounded.outputs, 2, "float outputs " + label);
  expect_lawful(fast.gradients, plain.gradients, rounded.gradients, 3, "float gradients " + label);
}

// `in` holds a state.
inline void expect_any_cut_equals_the_whole(const OpOf& op, const Tensors& in, const at::Tensor& positions) {
  const int64_t length = in[0].size(2);
  const auto part = [&](int64_t from, int64_t to) {
    return op(false, positions.defined() ? positions.slice(1, from, to) : at::Tensor());
  };
  const Tensors cotangents = random_like(op(false, {})(in));
  const Evaluation whole = evaluate(part(0, length), in, cotangents);
  for (int64_t cut = 0; cut <= length; ++cut) {
    const Op halves = [&](const Tensors& t) -> Tensors {
      Tensors first_in = t, second_in = t;
      first_in[0] = t[0].slice(2, 0, cut);
      const Tensors first = part(0, cut)(first_in);
      second_in[0] = t[0].slice(2, cut, length);
      second_in.back() = first[1];
      const Tensors second = part(cut, length)(second_in);
      return {at::cat({first[0], second[0]}, 2), second[1]};
    };
    const Evaluation split = evaluate(halves, in, cotangents);
    expect_close(split.outputs, whole.outputs, 1e-13, "outputs cut at " + std::to_string(cut));
    expect_close(split.gradients, whole.gradients, 1e-12, "gradients cut at " + std::to_string(cut));
  }
}

// `in` holds a state.
inline void expect_tokens_one_by_one_equal_the_whole(const OpOf& op, const Tensors& in, const at::Tensor& positions,
                                                     double tolerance) {
  const Tensors whole = op(false, positions)(in);
  Tensors steps, step_in = in;
  for (int64_t t = 0; t < in[0].size(2); ++t) {
    step_in[0] = in[0].slice(2, t, t + 1);
    const Tensors out = op(false, positions.slice(1, t, t + 1))(step_in);
    steps.push_back(out[0]);
    step_in.back() = out[1];
  }
  expect_close({at::cat(steps, 2), step_in.back()}, whole, tolerance, "steps");
}

inline void expect_same_bits_for_any_threads_and_runs(const Op& run, const Tensors& in) {
  const Tensors cotangents = random_like(run(in));
  Evaluation one, two, again;
  with_threads(1, [&] { one = evaluate(run, in, cotangents); });
  with_threads(2, [&] { two = evaluate(run, in, cotangents); });
  with_threads(2, [&] { again = evaluate(run, in, cotangents); });
  expect_same_bits(one.outputs, two.outputs, "outputs, threads");
  expect_same_bits(one.gradients, two.gradients, "gradients, threads");
  expect_same_bits(two.outputs, again.outputs, "outputs, runs");
  expect_same_bits(two.gradients, again.gradients, "gradients, runs");
}

// `in` is bfloat16.
inline void expect_state_in_float32(const Op& op, const Tensors& in) {
  const Tensors out = op(in), exact = op(cast(in, at::kFloat));
  EXPECT_EQ(out[0].scalar_type(), at::kBFloat16);
  EXPECT_EQ(out[1].scalar_type(), at::kFloat);
  EXPECT_TRUE(out[0].equal(exact[0].to(at::kBFloat16)));
  expect_same_bits({out[1]}, {exact[1]}, "state");
  const Tensors cotangents = random_like(out);
  const Evaluation rough = evaluate(op, in, cotangents);
  const Evaluation fine = evaluate(op, cast(in, at::kFloat), cast(cotangents, at::kFloat));
  for (size_t i = 0; i < in.size(); ++i) {
    EXPECT_EQ(rough.gradients[i].scalar_type(), at::kBFloat16);
    EXPECT_LE(relative_error(rough.gradients[i], fine.gradients[i]), 4e-3) << "gradient " << i;
  }
}

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
