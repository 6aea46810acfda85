#include "architectures/recurrent/attentive_scan/attentive_scan.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <limits>
#include <tuple>

#include "architectures/recurrent/additive_attention/additive_attention.h"
#include "core/tensor/flop_meter.h"
#include "tests/architectures/recurrent/scan_checks.h"

namespace hippodrome {
namespace attentive_scan_test {
namespace {

using namespace scan_checks;

// The inputs of the tests: gates, weight_hh, weight_c, weight_q, keys, v, values, s0 and, for an lstm, c0.
struct Sizes {
  int64_t batch = 2, length = 4, hidden = 3, features = 5, width = 4, sources = 2, keys = 6;
};
struct Case {
  std::string cell = "gru";
  at::Tensor source_positions, positions;
  bool initial = true;  // with s0 and c0
};

Op op(const Case& c, bool reference) {
  return [=](const Tensors& in) -> Tensors {
    AttentiveScanInputs inputs{c.cell, in[0], in[1], in[2], in[3], in[4], in[5], in[6]};
    if (in.size() > 7) inputs.s0 = in[7];
    if (in.size() > 8) inputs.c0 = in[8];
    inputs.source_positions = c.source_positions;
    inputs.positions = c.positions;
    auto [s, contexts, final_s, final_c] = attentive_scan(inputs, reference);
    return c.cell == "lstm" ? Tensors{s, contexts, final_s, final_c} : Tensors{s, contexts, final_s};
  };
}

Tensors inputs(const Case& c, const Sizes& a, at::ScalarType dtype = at::kDouble) {
  seed();
  const int64_t gates = (c.cell == "lstm" ? 4 : 3) * a.hidden;
  const auto weight = [](int64_t rows, int64_t columns) {
    return at::randn({rows, columns}, at::kDouble).div(std::sqrt(static_cast<double>(columns)));
  };
  Tensors in{at::randn({a.batch, a.length, gates}, at::kDouble),
             weight(gates, a.hidden),
             weight(gates, a.width),
             weight(a.features, a.hidden).mul(2),
             at::randn({a.sources, a.keys, a.features}, at::kDouble),
             at::randn({a.features}, at::kDouble),
             at::randn({a.sources, a.keys, a.width}, at::kDouble)};
  if (c.initial) in.push_back(at::randn({a.batch, a.hidden}, at::kDouble));
  if (c.initial && c.cell == "lstm") in.push_back(at::randn({a.batch, a.hidden}, at::kDouble));
  return cast(in, dtype);
}

at::Tensor padded_sources(int64_t sources, int64_t keys) {
  at::Tensor positions = mixed_positions(sources, keys);
  if (sources > 2) positions[sources - 1].fill_(-1);
  return positions;
}

// The equations of the papers, step by step from LibTorch's functions and additive_attention.
Op step_by_step(const Case& c) {
  return [=](const Tensors& in) -> Tensors {
    const int64_t n = in[1].size(1), hypotheses = in[0].size(0) / in[4].size(0);
    at::Tensor s = in[7], cell = in.size() > 8 ? in[8] : at::Tensor();
    Tensors states, contexts;
    for (int64_t t = 0; t < in[0].size(1); ++t) {
      const at::Tensor q = at::linear(s, in[3]).view({in[4].size(0), hypotheses, -1});
      const at::Tensor context =
          std::get<0>(additive_attention(q, in[4], in[5], in[6], c.source_positions, true)).flatten(0, 1);
      const at::Tensor x = in[0].select(1, t).add(at::linear(context, in[2]));
      const auto part = [&](const at::Tensor& from, int64_t i, int64_t dim) {
        return from.slice(dim, i * n, (i + 1) * n);
      };
      const auto gate = [&](int64_t i) { return part(x, i, 1).add(at::linear(s, part(in[1], i, 0))); };
      if (c.cell == "lstm") {
        const at::Tensor i = gate(0).sigmoid(), f = gate(1).sigmoid(), g = gate(2).tanh(), o = gate(3).sigmoid();
        cell = f.mul(cell).add(i.mul(g));
        s = o.mul(cell.tanh());
      } else {
        const at::Tensor r = gate(0).sigmoid(), z = gate(1).sigmoid();
        const at::Tensor candidate = part(x, 2, 1).add(at::linear(r.mul(s), part(in[1], 2, 0))).tanh();
        s = z.neg().add(1).mul(s).add(z.mul(candidate));
      }
      states.push_back(s);
      contexts.push_back(context);
    }
    Tensors out{at::stack(states, 1), at::stack(contexts, 1), s};
    if (c.cell == "lstm") out.push_back(cell);
    return out;
  };
}

TEST(AttentiveScan, ReferenceIsThePapersEquations) {
  for (const std::string cell : {"gru", "lstm"}) {
    for (const int64_t hypotheses : {1, 3}) {
      const Sizes sizes{3 * hypotheses, 5, 4, 6, 7, 3, 8};
      const Case c{cell, padded_sources(3, 8), {}};
      const Tensors in = inputs(c, sizes);
      const Tensors cotangents = random_like(step_by_step(c)(in));
      const Evaluation ours = evaluate(op(c, true), in, cotangents), steps = evaluate(step_by_step(c), in, cotangents);
      expect_close(ours.outputs, steps.outputs, 1e-13, cell + " outputs");
      expect_close(ours.gradients, steps.gradients, 1e-12, cell + " gradients");
    }
  }
}

TEST(AttentiveScan, FusedMatchesReference) {
  for (const std::string cell : {"gru", "lstm"}) {
    for (const Sizes& a :
         {Sizes{1, 1, 1, 1, 1, 1, 1}, Sizes{2, 3, 5, 7, 3, 1, 40}, Sizes{3, 9, 17, 16, 33, 3, 33},
          Sizes{5, 12, 40, 37, 20, 5, 5}, Sizes{36, 2, 9, 8, 10, 4, 35}, Sizes{3, 1, 24, 24, 24, 3, 9}}) {
      for (const int variant : {0, 1, 2}) {  // plain, with a state, with a state and padding
        Case c{cell, {}, {}, variant > 0};
        if (variant == 2) c.source_positions = padded_sources(a.sources, a.keys);
        if (variant == 2) c.positions = mixed_positions(a.batch, a.length);
        const Tensors in = inputs(c, a);
        const auto label =
            cell + ::testing::PrintToString(std::make_tuple(a.batch, a.length, a.hidden, a.keys, variant));
        expect_fused_matches(op(c, false), op(c, true), in, label,
                             {.outputs = 1e-12, .gradients = 1e-11, .output_factor = 3, .gradient_factor = 4});
      }
    }
  }
}

TEST(AttentiveScan, GradientsMatchFiniteDifferences) {
  for (const std::string cell : {"gru", "lstm"}) {
    const Sizes a{4, 6, 5, 6, 3, 2, 9};
    const Case c{cell, padded_sources(2, 9), mixed_positions(4, 6)};
    expect_gradients_match_differences(op(c, false), inputs(c, a));
    expect_gradients_match_differences(op(c, true), inputs(c, a));
  }
}

TEST(AttentiveScan, AnyCutWithCarriedStateEqualsTheWhole) {
  for (const std::string cell : {"gru", "lstm"}) {
    const Sizes a{4, 11, 6, 5, 7, 2, 9};
    Case c{cell, padded_sources(2, 9), {}};
    for (const bool with_positions : {false, true}) {
      at::Tensor positions;
      if (with_positions) {
        // Padding anywhere, no new start.
        positions = mixed_positions(4, 11);
        positions.masked_fill_(positions.eq(0), 5);
      }
      const auto part = [&](int64_t from, int64_t to) {
        Case cut = c;
        if (with_positions) cut.positions = positions.slice(1, from, to);
        return op(cut, false);
      };
      const Tensors in = inputs(c, a);
      const Tensors cotangents = random_like(part(0, 11)(in));
      const Evaluation whole = evaluate(part(0, 11), in, cotangents);
      for (int64_t cut = 0; cut <= 11; ++cut) {
        const Op halves = [&](const Tensors& t) -> Tensors {
          Tensors first = t, second = t;
          first[0] = t[0].slice(1, 0, cut);
          second[0] = t[0].slice(1, cut, 11);
          const Tensors a = part(0, cut)(first);
          for (size_t i = 7; i < t.size(); ++i) second[i] = a[i - 5];
          Tensors b = part(cut, 11)(second);
          b[0] = at::cat({a[0], b[0]}, 1);
          b[1] = at::cat({a[1], b[1]}, 1);
          return b;
        };
        const Evaluation split = evaluate(halves, in, cotangents);
        expect_close(split.outputs, whole.outputs, 1e-12, cell + " outputs cut at " + std::to_string(cut));
        expect_close(split.gradients, whole.gradients, 1e-11, cell + " gradients cut at " + std::to_string(cut));
      }
    }
  }
}

TEST(AttentiveScan, HypothesesOfASourceEqualRepeatedSources) {
  for (const std::string cell : {"gru", "lstm"}) {
    for (const int64_t length : {1, 7}) {
      const Sizes a{12, length, 6, 5, 7, 3, 9};
      const Case shared{cell, padded_sources(3, 9), {}};
      const Case repeated{cell, shared.source_positions.repeat_interleave(4, 0), {}};
      const Tensors in = inputs(shared, a);
      const Op expanded = [&](const Tensors& t) -> Tensors {
        Tensors wide = t;
        for (const size_t i : {4, 6}) wide[i] = t[i].repeat_interleave(4, 0);
        return op(repeated, false)(wide);
      };
      const Tensors cotangents = random_like(expanded(in));
      const Evaluation one = evaluate(op(shared, false), in, cotangents), all = evaluate(expanded, in, cotangents);
      expect_close(one.outputs, all.outputs, 1e-13, cell + " outputs");
      expect_close(one.gradients, all.gradients, 1e-12, cell + " gradients");
    }
  }
}

TEST(AttentiveScan, PaddingIsNotReadAndChangesNothing) {
  for (const std::string cell : {"gru", "lstm"}) {
    for (const bool reference : {false, true}) {
      const Sizes a{1, 5, 6, 5, 7, 1, 4};
      const Case plain{cell, {}, {}};
      Tensors in = inputs(plain, a);
      const Tensors clean = op(plain, reference)(in);
      const double nan = std::numeric_limits<double>::quiet_NaN();
      const auto hole = [&](const at::Tensor& t) { return at::zeros({1, 1, t.size(2)}, at::kDouble).fill_(nan); };
      const auto with_holes = [&](const at::Tensor& t) {
        return at::cat({hole(t), t.slice(1, 0, 2), hole(t), t.slice(1, 2), hole(t)}, 1);
      };
      Tensors holed = in;
      for (const size_t i : {0, 4, 6}) holed[i] = with_holes(in[i]);
      Case c = plain;
      c.positions = at::tensor({-1, 5, 6, -1, 7, 8, 9, -1}, at::kLong).unsqueeze(0);  // they go on
      c.source_positions = at::tensor({-1, 0, 1, -1, 2, 3, -1}, at::kLong).unsqueeze(0);
      Tensors out = op(c, reference)(holed);
      const at::Tensor kept = at::tensor({1, 2, 4, 5, 6}, at::kLong);
      for (const size_t i : {0, 1}) {
        EXPECT_EQ(rms(out[i].index_select(1, at::tensor({0, 3, 7}, at::kLong))), 0.0);
        out[i] = out[i].index_select(1, kept);
      }
      expect_same_bits(out, clean, cell + " with padding");
      const Evaluation e = evaluate(op(c, reference), holed, random_like(op(c, reference)(holed)));
      for (const at::Tensor& gradient : e.gradients) EXPECT_TRUE(gradient.isfinite().all().item<bool>());
    }
  }
}

TEST(AttentiveScan, PositionZeroStartsFromZeroWhateverTheState) {
  for (const std::string cell : {"gru", "lstm"}) {
    Case c{cell, {}, at::tensor({0, 1, 2, 0, 1}, at::kLong).unsqueeze(0)};
    const Tensors in = inputs(c, {1, 5, 6, 5, 7, 1, 4});
    const Case plain{cell, {}, {}};
    Tensors first = in, second = in;
    first[0] = in[0].slice(1, 0, 3);
    second[0] = in[0].slice(1, 3, 5);
    for (size_t i = 7; i < in.size(); ++i) first[i] = second[i] = at::zeros_like(in[i]);
    const Tensors before = op(plain, false)(first), whole = op(c, false)(in);
    Tensors expected = op(plain, false)(second);
    for (const size_t i : {0, 1}) expected[i] = at::cat({before[i], expected[i]}, 1);
    expect_same_bits(whole, expected, cell);
    const Evaluation e = evaluate(op(c, false), in, random_like(whole));
    for (size_t i = 7; i < in.size(); ++i) EXPECT_EQ(rms(e.gradients[i]), 0.0) << "the state before does not count";
  }
}

TEST(AttentiveScan, SameBitsForAnyThreadsRunsAndNeighbours) {
  for (const std::string cell : {"gru", "lstm"}) {
    const Case c{cell, padded_sources(13, 20), mixed_positions(13, 15)};
    const Tensors in = inputs(c, {13, 15, 33, 40, 24, 13, 20}, at::kFloat);
    expect_same_bits_for_any_threads(op(c, false), in);
    const Case plain{cell, {}, {}};
    const Tensors all = op(plain, false)(in);
    for (int64_t b = 0; b < 13; b += 4) {
      Tensors row = in, expected = all;
      for (size_t i = 0; i < in.size(); ++i) {
        if (i == 0 || i == 4 || i > 5) row[i] = in[i].slice(0, b, b + 1);
      }
      for (at::Tensor& t : expected) t = t.slice(0, b, b + 1);
      expect_same_bits(op(plain, false)(row), expected, "row " + std::to_string(b));
    }
  }
}

TEST(AttentiveScan, Bfloat16IsComputedInFloat32) {
  const Case c;
  const Tensors in = inputs(c, {2, 9, 16, 16, 24, 2, 12}, at::kBFloat16);
  const Tensors out = op(c, false)(in), exact = op(c, false)(cast(in, at::kFloat));
  expect_same_bits(out, {exact[0].to(at::kBFloat16), exact[1].to(at::kBFloat16), exact[2]}, "outputs");
  EXPECT_EQ(out[2].scalar_type(), at::kFloat);
  const Tensors cotangents = random_like(out);
  const Evaluation rough = evaluate(op(c, false), in, cotangents);
  const Evaluation fine = evaluate(op(c, false), cast(in, at::kFloat), cast(cotangents, at::kFloat));
  for (size_t i = 0; i < in.size(); ++i) {
    EXPECT_EQ(rough.gradients[i].scalar_type(), at::kBFloat16);
    EXPECT_LE(relative_error(rough.gradients[i], fine.gradients[i]), 1e-2) << "gradient " << i;
  }
}

TEST(AttentiveScan, StridedInputsUnneededGradientsAndNoTokens) {
  const Case c;
  const Tensors in = inputs(c, {3, 4, 6, 5, 7, 3, 9});
  Tensors strided;
  for (const at::Tensor& t : in) strided.push_back(t.dim() > 1 ? t.transpose(0, 1).contiguous().transpose(0, 1) : t);
  expect_same_bits(op(c, false)(strided), op(c, false)(in), "strided");
  Tensors leaf = in;
  leaf[3] = in[3].detach().set_requires_grad(true);
  EXPECT_GT(rms(torch::autograd::grad({op(c, false)(leaf)[0].sum()}, {leaf[3]})[0]), 0.0);
  Tensors none = in;
  none[0] = in[0].slice(1, 0, 0);
  expect_same_bits({op(c, false)(none)[2]}, {in[7]}, "no token, same state");
}

TEST(AttentiveScan, DoubleBackwardRaises) {
  const Case c;
  Tensors in = inputs(c, {});
  for (const bool reference : {false, true}) {
    in[0] = in[0].detach().set_requires_grad(true);
    const Tensors first = torch::autograd::grad({op(c, reference)(in)[0].square().sum()}, {in[0]}, {}, true, true);
    EXPECT_THROW(torch::autograd::grad({first[0].sum()}, {in[0]}), c10::Error);
  }
}

TEST(AttentiveScan, MetaTensorsHaveTheShapesOfTheResult) {
  for (const std::string cell : {"gru", "lstm"}) {
    const Case c{cell, {}, {}};
    Tensors in = inputs(c, {}), meta;
    for (const at::Tensor& t : in) meta.push_back(t.to(at::kMeta).set_requires_grad(true));
    for (const bool reference : {false, true}) {
      const Tensors out = op(c, reference)(meta), real = op(c, reference)(in);
      Tensors cotangents;
      for (size_t i = 0; i < out.size(); ++i) {
        EXPECT_EQ(out[i].sizes(), real[i].sizes());
        cotangents.push_back(at::empty_like(out[i]));
      }
      const Tensors gradients = torch::autograd::grad(out, meta, cotangents);
      for (size_t i = 0; i < meta.size(); ++i) EXPECT_EQ(gradients[i].sizes(), in[i].sizes());
    }
  }
}

TEST(AttentiveScan, ReferenceCountsItsOperations) {
  const int64_t n = 3, features = 5, width = 4, keys = 6;
  for (const std::string cell : {"gru", "lstm"}) {
    const Case c{cell, {}, {}};
    const Tensors in = inputs(c, {2, 4, n, features, width, 2, keys});
    FlopMeter meter;
    op(c, true)(in);
    const int64_t gates = in[1].size(0), attention = keys * (4 * features + 4 + 2 * width) + 3;
    // A unit: sigmoids of 3 operations, a tanh for the candidate; 5 more for the state of a gru, 5 for that of an lstm.
    const int64_t unit = cell == "gru" ? 2 * 3 + 1 + 5 : 3 * 3 + 1 + 5;
    EXPECT_EQ(meter.flops(), 2 * 4 * (2 * n * features + attention + 2 * gates * (n + width) + unit * n)) << cell;
  }
}

TEST(AttentiveScan, RefusesWhatDoesNotFit) {
  const Case c;
  const Tensors good = inputs(c, {});
  const auto refused = [&](const Case& with, size_t i, const at::Tensor& wrong) {
    Tensors in = good;
    in[i] = wrong;
    EXPECT_THROW(op(with, false)(in), c10::Error) << "input " << i;
  };
  for (size_t i = 0; i < good.size(); ++i) refused(c, i, good[i].slice(good[i].dim() - 1, 1));
  refused(c, 4, good[4].to(at::kFloat));
  refused(c, 4, at::cat({good[4], good[4]}));  // keys of more sources than values
  refused({"rnn", {}, {}}, 0, good[0]);
  refused({"gru", {}, mixed_positions(2, 3)}, 0, good[0]);
  refused({"gru", mixed_positions(2, 5), {}}, 0, good[0]);
  Tensors cell = good;
  cell.push_back(good[7]);
  EXPECT_THROW(op(c, false)(cell), c10::Error) << "c0 of a gru";
}

}  // namespace
}  // namespace attentive_scan_test
}  // namespace hippodrome
