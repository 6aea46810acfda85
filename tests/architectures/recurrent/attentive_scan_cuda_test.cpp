// attentive_scan as it runs on a GPU, of LibTorch's operators and the kernels of additive attention, emulated.
#include "architectures/recurrent/attentive_scan/cuda_binding.h"

#include <limits>
#include <string>
#include <tuple>

#include "architectures/recurrent/additive_attention/cuda_kernels.h"
#include "architectures/recurrent/attentive_scan/attentive_scan.h"
#include "core/cuda/emulator.h"
#include "tests/architectures/recurrent/scan_checks.h"

namespace hippodrome {
namespace attentive_scan_cuda_test {
namespace {

using namespace scan_checks;
using namespace additive_cuda;

const Kernels kAttention{
    [](const Forward& p, void*) { return run_additive_attention_forward(p, cuda::EmulatedLauncher{}); },
    [](const Weights& p, void*) { return run_additive_attention_weights(p, cuda::EmulatedLauncher{}); },
    [](const Backward& p, void*) { return run_additive_attention_backward(p, cuda::EmulatedLauncher{}); }};

struct Sizes {
  int64_t batch, length, hidden, features, width, sources, keys;
};
struct Case {
  std::string cell;
  Tensor source_positions, positions;
};

// gates, weight_hh, weight_c, weight_q, keys, v, values and, where there is a state, s0 and an lstm's c0.
Tensors inputs(const std::string& cell, const Sizes& a, bool state, at::ScalarType dtype = at::kDouble) {
  seed();
  const int64_t gates = (cell == "lstm" ? 4 : 3) * a.hidden;
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
  if (state) in.push_back(at::randn({a.batch, a.hidden}, at::kDouble));
  if (state && cell == "lstm") in.push_back(at::randn({a.batch, a.hidden}, at::kDouble));
  return cast(in, dtype);
}

Op cpu(const Case& c, bool reference) {
  return [=](const Tensors& in) -> Tensors {
    AttentiveScanInputs inputs{c.cell, in[0], in[1], in[2], in[3], in[4], in[5], in[6]};
    if (in.size() > 7) inputs.s0 = in[7];
    if (in.size() > 8) inputs.c0 = in[8];
    if (c.source_positions.defined()) inputs.source_positions = c.source_positions;
    if (c.positions.defined()) inputs.positions = c.positions;
    auto [s, contexts, final_s, final_c] = attentive_scan(inputs, reference);
    return c.cell == "lstm" ? Tensors{s, contexts, final_s, final_c} : Tensors{s, contexts, final_s};
  };
}

attentive_scan_op::Arguments arguments(const Case& c, const Tensors& in) {
  return {c.cell,
          in[0],
          in[1],
          in[2],
          in[3],
          in[4],
          in[5],
          in[6],
          in.size() > 7 ? OptionalTensor(in[7]) : std::nullopt,
          in.size() > 8 ? OptionalTensor(in[8]) : std::nullopt,
          if_defined(c.source_positions),
          if_defined(c.positions)};
}

Tensors forward(const Case& c, const Tensors& in) {
  auto [s, contexts, final_s, final_c, kept] = attentive_scan_cuda::forward(kAttention, arguments(c, in), false);
  EXPECT_TRUE(kept.empty());
  return c.cell == "lstm" ? Tensors{s, contexts, final_s, final_c} : Tensors{s, contexts, final_s};
}

// What autograd does with the op of a GPU.
Evaluation run(const Case& c, const Tensors& in, Tensors cotangents) {
  const auto a = arguments(c, in);
  auto [s, contexts, final_s, final_c, kept] = attentive_scan_cuda::forward(kAttention, a, true);
  if (c.cell == "gru") cotangents.push_back(at::empty({0}, final_s.options()));
  Evaluation result;
  result.outputs = c.cell == "lstm" ? Tensors{s, contexts, final_s, final_c} : Tensors{s, contexts, final_s};
  result.gradients =
      attentive_scan_cuda::backward(kAttention, cotangents, a, kept[5].numel() > 0 ? kept[5] : contexts, kept);
  result.gradients.resize(in.size());
  return result;
}

TEST(AttentiveScanCuda, MatchesTheReference) {
  for (const std::string cell : {"gru", "lstm"}) {
    for (const Sizes& a : {Sizes{1, 1, 1, 1, 1, 1, 1}, Sizes{3, 5, 5, 7, 3, 1, 40}, Sizes{3, 9, 17, 16, 33, 3, 33},
                           Sizes{15, 4, 9, 8, 10, 3, 35}, Sizes{3, 20, 4, 6, 5, 3, 140}}) {
      for (const int variant : {0, 1, 2}) {  // plain, with a state, with a state and padding
        Case c{cell, {}, {}};
        if (variant == 2) {
          c.source_positions = mixed_positions(a.sources, a.keys);
          if (a.sources > 2) c.source_positions[a.sources - 1].fill_(-1);
          c.positions = mixed_positions(a.batch, a.length);
        }
        const Tensors in = inputs(cell, a, variant > 0);
        const Tensors cotangents = random_like(forward(c, in));
        const auto label =
            cell + ::testing::PrintToString(std::make_tuple(a.batch, a.length, a.hidden, a.keys, variant));
        const Evaluation exact = evaluate(cpu(c, true), in, cotangents), fused = run(c, in, cotangents);
        expect_close(fused.outputs, exact.outputs, 1e-12, "double outputs " + label);
        expect_same_bits(forward(c, in), fused.outputs, "kept or not " + label);
        expect_close(fused.gradients, exact.gradients, 1e-11, "double gradients " + label);
        const Tensors in_float = cast(in, at::kFloat), cotangents_float = cast(cotangents, at::kFloat);
        const Evaluation rounded =
            evaluate(cpu(c, true), cast(in_float, at::kDouble), cast(cotangents_float, at::kDouble));
        const Evaluation plain = evaluate(cpu(c, true), in_float, cotangents_float);
        const Evaluation fast = run(c, in_float, cotangents_float);
        expect_lawful(fast.outputs, plain.outputs, rounded.outputs, 3, "float outputs " + label);
        expect_lawful(fast.gradients, plain.gradients, rounded.gradients, 4, "float gradients " + label);
      }
    }
  }
}

TEST(AttentiveScanCuda, PaddingIsNotRead) {
  for (const std::string cell : {"gru", "lstm"}) {
    const Case c{cell, mixed_positions(2, 12), mixed_positions(4, 9)};
    const Tensors in = inputs(cell, {4, 9, 6, 5, 7, 2, 12}, true);
    const auto poisoned = [](const Tensor& x, const Tensor& positions) {
      return x.masked_fill(positions.lt(0).unsqueeze(2), std::numeric_limits<double>::quiet_NaN());
    };
    Tensors holed = in;
    holed[0] = poisoned(in[0], c.positions);
    for (const size_t i : {4, 6}) holed[i] = poisoned(in[i], c.source_positions);
    const Tensors cotangents = random_like(forward(c, in));
    const Evaluation clean = run(c, in, cotangents), other = run(c, holed, cotangents);
    expect_same_bits(other.outputs, clean.outputs, cell + " outputs");
    expect_same_bits(other.gradients, clean.gradients, cell + " gradients");
    EXPECT_EQ(rms(other.outputs[0].masked_select(c.positions.lt(0).unsqueeze(2))), 0.0);
    EXPECT_EQ(rms(other.gradients[0].masked_select(c.positions.lt(0).unsqueeze(2))), 0.0);
  }
}

TEST(AttentiveScanCuda, NarrowDtypesAreComputedInFloat32) {
  const Sizes a{4, 5, 8, 6, 10, 2, 12};
  for (const std::string cell : {"gru", "lstm"}) {
    for (const auto dtype : {at::kBFloat16, at::kHalf}) {
      const Case c{cell, {}, {}};
      const Tensors in = inputs(cell, a, true, dtype);
      Tensors cotangents = random_like(forward(c, in));
      const Evaluation narrow = run(c, in, cotangents);
      for (Tensor& t : cotangents) t = t.to(at::kFloat);
      const Evaluation wide = run(c, cast(in, at::kFloat), cotangents);
      for (size_t i = 0; i < wide.outputs.size(); ++i) {
        EXPECT_EQ(narrow.outputs[i].scalar_type(), i < 2 ? dtype : at::kFloat);
        EXPECT_TRUE(narrow.outputs[i].equal(wide.outputs[i].to(narrow.outputs[i].scalar_type())));
      }
      expect_same_bits(narrow.gradients, wide.gradients, cell);
    }
  }
}

TEST(AttentiveScanCuda, StridedInputsAndNoTokens) {
  for (const std::string cell : {"gru", "lstm"}) {
    const Case c{cell, {}, {}};
    const Tensors in = inputs(cell, {3, 4, 6, 5, 7, 3, 9}, true);
    Tensors strided;
    for (const Tensor& t : in) strided.push_back(t.dim() > 1 ? t.transpose(0, 1).contiguous().transpose(0, 1) : t);
    const Tensors cotangents = random_like(forward(c, in));
    const Evaluation plain = run(c, in, cotangents), other = run(c, strided, cotangents);
    expect_close(other.outputs, plain.outputs, 1e-14, "outputs");
    expect_close(other.gradients, plain.gradients, 1e-14, "gradients");
    Tensors none = in;
    none[0] = in[0].slice(1, 0, 0);
    const Tensors out = forward(c, none);
    expect_same_bits({out[2]}, {in[7]}, "no token, same state");
    EXPECT_FALSE(out[2].is_alias_of(in[7]));
    const Tensors state = random_like(out);
    expect_same_bits({run(c, none, state).gradients[7]}, {state[2]}, "no token, same gradient");
  }
}

}  // namespace
}  // namespace attentive_scan_cuda_test
}  // namespace hippodrome
