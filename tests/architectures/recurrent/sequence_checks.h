// How an op reads a sequence: cut anywhere, step by step, padded and packed, in rows side by side, in two-byte types.
//
// The op's first input and first output run along time, on the axis `time`; its other outputs are the states in which
// it ended, which it takes as inputs from `states` on, so that a call continues where another ended.
#pragma once

#include "tests/architectures/recurrent/scan_checks.h"

namespace hippodrome::scan_checks {

// An op with its positions, which are undefined where there are none.
using PositionedOp = std::function<Op(at::Tensor positions)>;

// Inputs of which the first is its part along time, with the states behind `before` where that is not empty.
inline Tensors part_of(Tensors in, int64_t time, int64_t from, int64_t to, size_t states, const Tensors& before) {
  in[0] = in[0].slice(time, from, to);
  for (size_t i = 1; i < before.size(); ++i) in[states + i - 1] = before[i];
  return in;
}

inline Tensors joined(const Tensors& first, const Tensors& second, int64_t time) {
  Tensors result = second;
  result[0] = at::cat({first[0], second[0]}, time);
  return result;
}

// Values and gradients through the carried state equal those of the whole, at every cut, with positions and without.
inline void expect_any_cut_equals_the_whole(const PositionedOp& op, const Tensors& in, int64_t time, size_t states) {
  const int64_t length = in[0].size(time);
  const at::Tensor positions = mixed_positions(in[0].size(0), length);
  for (const bool with_positions : {false, true}) {
    const auto part = [&](const Tensors& t, int64_t from, int64_t to, const Tensors& before) {
      return op(with_positions ? positions.slice(1, from, to)
                               : at::Tensor())(part_of(t, time, from, to, states, before));
    };
    const Tensors cotangents = random_like(part(in, 0, length, {}));
    const Evaluation whole = evaluate([&](const Tensors& t) { return part(t, 0, length, {}); }, in, cotangents);
    for (int64_t cut = 0; cut <= length; ++cut) {
      const Op halves = [&](const Tensors& t) -> Tensors {
        const Tensors first = part(t, 0, cut, {});
        return joined(first, part(t, cut, length, first), time);
      };
      const Evaluation split = evaluate(halves, in, cotangents);
      expect_close(split.outputs, whole.outputs, 1e-13, "outputs cut at " + std::to_string(cut));
      expect_close(split.gradients, whole.gradients, 1e-12, "gradients cut at " + std::to_string(cut));
    }
  }
}

inline void expect_steps_equal_the_whole(const PositionedOp& op, const Tensors& in, int64_t time, size_t states) {
  const at::Tensor positions = mixed_positions(in[0].size(0), in[0].size(time));
  const Tensors whole = op(positions)(in);
  Tensors got;
  for (int64_t t = 0; t < in[0].size(time); ++t) {
    const Tensors step = op(positions.slice(1, t, t + 1))(part_of(in, time, t, t + 1, states, got));
    got = got.empty() ? step : joined(got, step, time);
  }
  expect_close(got, whole, in[0].scalar_type() == at::kFloat ? 1e-6 : 1e-14, "steps");
}

// Two sequences of 5 and 7 tokens in one row, padding (holding NaN) around and inside them, are as they are apart.
// `in`: one row of 12 tokens, no states.
inline void expect_padding_and_packing_change_nothing(const PositionedOp& op, const Tensors& in, int64_t time) {
  std::vector<int64_t> gap = in[0].sizes().vec();
  gap[static_cast<size_t>(time)] = 4;
  const at::Tensor padding = at::full(gap, std::numeric_limits<double>::quiet_NaN(), at::kDouble);
  const at::Tensor positions =
      at::tensor({-1, -1, -1, -1, 0, 1, -1, -1, -1, -1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 6, -1, -1, -1, -1}, at::kLong)
          .unsqueeze(0);
  const Op apart = [&](const Tensors& t) -> Tensors {
    const Op plain = op({});
    return joined(plain(part_of(t, time, 0, 5, 0, {})), plain(part_of(t, time, 5, 12, 0, {})), time);
  };
  const Op together = [&](const Tensors& t) -> Tensors {
    Tensors packed = t;
    packed[0] = at::cat({padding, t[0].slice(time, 0, 2), padding, t[0].slice(time, 2, 12), padding}, time);
    Tensors out = op(positions)(packed);
    for (const int64_t start : {0, 6, 20}) EXPECT_EQ(rms(out[0].slice(time, start, start + 4)), 0.0) << start;
    out[0] = at::cat({out[0].slice(time, 4, 6), out[0].slice(time, 10, 20)}, time);
    return out;
  };
  const Tensors cotangents = random_like(apart(in));
  const Evaluation a = evaluate(together, in, cotangents), b = evaluate(apart, in, cotangents);
  expect_close(a.outputs, b.outputs, 1e-13, "outputs");
  expect_close(a.gradients, b.gradients, 1e-12, "gradients");
}

// A row's bits do not depend on the rows beside it. `by_row`: the inputs that have rows.
inline void expect_rows_as_alone(const Op& op, const Tensors& in, const std::vector<size_t>& by_row) {
  const Tensors all = op(in);
  for (int64_t b = 0; b < in[0].size(0); ++b) {
    Tensors alone = in, expected;
    for (const size_t i : by_row) alone[i] = in[i].slice(0, b, b + 1);
    for (const at::Tensor& t : all) expected.push_back(t.slice(0, b, b + 1));
    expect_same_bits(op(alone), expected, "row " + std::to_string(b));
  }
}

// A two-byte type is that of the first output and of the gradients; states are float32, and so is all that is computed.
inline void expect_float_states(const Op& op, const Tensors& in, double tolerance) {
  const at::ScalarType dtype = in[0].scalar_type();
  const Tensors out = op(in);
  Tensors wide = op(cast(in, at::kFloat));
  wide[0] = wide[0].to(dtype);
  for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(out[i].scalar_type(), i == 0 ? dtype : at::kFloat) << i;
  expect_same_bits(out, wide, "outputs");
  const Tensors cotangents = random_like(out);
  const Evaluation rough = evaluate(op, in, cotangents);
  const Evaluation fine = evaluate(op, cast(in, at::kFloat), cast(cotangents, at::kFloat));
  for (size_t i = 0; i < in.size(); ++i) {
    EXPECT_EQ(rough.gradients[i].scalar_type(), dtype);
    EXPECT_LE(relative_error(rough.gradients[i], fine.gradients[i]), tolerance) << "gradient " << i;
  }
}

}  // namespace hippodrome::scan_checks
