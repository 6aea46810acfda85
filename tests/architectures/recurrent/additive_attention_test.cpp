#include "architectures/recurrent/additive_attention/additive_attention.h"

#include <ATen/ops/full.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros.h>

#include <limits>
#include <tuple>

#include "core/tensor/flop_meter.h"
#include "core/tensor/memory_meter.h"
#include "tests/architectures/recurrent/sequence_checks.h"

namespace hippodrome {
namespace additive_attention_test {
namespace {

using namespace scan_checks;

// Inputs are queries, keys, v and values.
Op op(bool reference, at::Tensor positions = {}) {
  return [=](const Tensors& in) -> Tensors {
    auto [context, lse] = additive_attention(in[0], in[1], in[2], in[3], positions, reference);
    return {context, lse};
  };
}

Tensors inputs(int64_t batch, int64_t queries, int64_t keys, int64_t size, int64_t width,
               at::ScalarType dtype = at::kDouble) {
  seed();
  return cast({at::randn({batch, queries, size}, at::kDouble), at::randn({batch, keys, size}, at::kDouble),
               at::randn({size}, at::kDouble), at::randn({batch, keys, width}, at::kDouble)},
              dtype);
}

// Positions with padding, and a last row of nothing else.
at::Tensor padded(int64_t batch, int64_t keys) {
  at::Tensor positions = mixed_positions(batch, keys);
  positions[batch - 1].fill_(-1);
  return positions;
}

// The form that holds [B, Lq, S, H], from LibTorch's own functions.
Tensors materialised(const Tensors& in, const at::Tensor& positions) {
  at::Tensor scores = at::tanh(in[0].unsqueeze(2).add(in[1].unsqueeze(1))).matmul(in[2]);
  if (positions.defined()) {
    scores = scores.masked_fill(positions.lt(0).unsqueeze(1), -std::numeric_limits<double>::infinity());
  }
  return {scores.softmax(-1).bmm(in[3]), scores.logsumexp({-1})};
}

TEST(AdditiveAttention, ReferenceEqualsTheMaterialisedForm) {
  for (const bool ragged : {false, true}) {
    const at::Tensor positions = ragged ? mixed_positions(3, 7) : at::Tensor();
    const Tensors in = inputs(3, 4, 7, 5, 6);
    const Op materialised_op = [&](const Tensors& t) { return materialised(t, positions); };
    const Tensors cotangents = random_like(materialised_op(in));
    const Evaluation a = evaluate(op(true, positions), in, cotangents), b = evaluate(materialised_op, in, cotangents);
    expect_close(a.outputs, b.outputs, 1e-13, "outputs");
    expect_close(a.gradients, b.gradients, 1e-12, "gradients");
  }
}

// Sizes about the edges of the blocks of 16 queries and 32 keys, of tiles and of vectors.
TEST(AdditiveAttention, FusedMatchesReference) {
  for (const auto& [queries, keys] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 1}, {1, 33}, {2, 1}, {3, 5}, {15, 31}, {16, 32}, {17, 33}, {35, 64}, {21, 131}, {2, 600}}) {
    for (const auto& [size, width] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {7, 3}, {16, 40}, {37, 17}}) {
      for (const bool ragged : {false, true}) {
        const at::Tensor positions = ragged ? padded(3, keys) : at::Tensor();
        expect_fused_matches(op(false, positions), op(true, positions), inputs(3, queries, keys, size, width),
                             ::testing::PrintToString(std::make_tuple(queries, keys, size, width, ragged)),
                             {.gradients = 1e-11});
      }
    }
  }
}

TEST(AdditiveAttention, GradientsMatchFiniteDifferences) {
  expect_gradients_match_differences(op(false), inputs(2, 6, 9, 5, 4));
  expect_gradients_match_differences(op(false, padded(3, 70)), inputs(3, 18, 70, 6, 3));
  expect_gradients_match_differences(op(true, padded(3, 20)), inputs(3, 18, 20, 6, 3));
}

TEST(AdditiveAttention, PaddingIsNotReadAndARowOfItGivesZero) {
  for (const bool reference : {false, true}) {
    for (const int64_t queries : {1, 5}) {
      const at::Tensor positions = padded(3, 40);
      const Tensors in = inputs(3, queries, 40, 8, 6);
      Tensors poisoned = in;
      for (const size_t i : {1, 3}) {
        poisoned[i] = in[i].masked_fill(positions.lt(0).unsqueeze(2), std::numeric_limits<double>::quiet_NaN());
      }
      const Tensors cotangents = random_like(op(reference)(in));
      const Evaluation clean = evaluate(op(reference, positions), in, cotangents);
      const Evaluation other = evaluate(op(reference, positions), poisoned, cotangents);
      expect_same_bits(other.outputs, clean.outputs, "outputs with NaN in the padding");
      expect_same_bits(other.gradients, clean.gradients, "gradients with NaN in the padding");
      EXPECT_EQ(rms(other.outputs[0][2]), 0.0);
      EXPECT_EQ(rms(other.outputs[1][2]), 0.0);
      EXPECT_EQ(rms(other.gradients[0][2]), 0.0);
      for (const size_t i : {1, 3}) {
        EXPECT_EQ(rms(other.gradients[i].masked_select(positions.lt(0).unsqueeze(2))), 0.0) << "padded gradient " << i;
      }
    }
  }
}

// e^{2q} e^{2k} would overflow, lose what q + k keeps where they cancel, and the digits of a small tanh.
TEST(AdditiveAttention, TakesSumsOfAnySize) {
  for (const double scale : {0.001, 0.25, 0.4, 10.0, 19.0, 30.0, 100.0, 1000.0}) {
    for (const auto dtype : {at::kFloat, at::kDouble}) {
      Tensors in = inputs(2, 18, 40, 33, 5);
      in[0] = in[0].clamp(-1, 1).mul(scale);
      in[1] = in[1].clamp(-1, 1).mul(scale);
      // Some pairs cancel but for a little.
      in[1][0][3] = in[0][0][2].neg().add(0.01 * scale);
      in = cast(in, dtype);
      const Tensors cotangents = random_like(op(false)(in));
      const Evaluation fused = evaluate(op(false), in, cotangents);
      const Evaluation exact = evaluate(op(true), cast(in, at::kDouble), cast(cotangents, at::kDouble));
      const Evaluation plain = evaluate(op(true), in, cotangents);
      const auto label = ::testing::PrintToString(scale);
      for (const Tensors& tensors : {fused.outputs, fused.gradients}) {
        for (const at::Tensor& t : tensors) EXPECT_TRUE(t.isfinite().all().item<bool>()) << label;
      }
      if (dtype == at::kDouble) {
        expect_close(fused.outputs, exact.outputs, 1e-13, "outputs at " + label);
        expect_close(fused.gradients, exact.gradients, 1e-11, "gradients at " + label);
      } else {
        expect_lawful(fused.outputs, plain.outputs, exact.outputs, 2, "outputs at " + label);
        expect_lawful(fused.gradients, plain.gradients, exact.gradients, 3, "gradients at " + label);
      }
    }
  }
}

TEST(AdditiveAttention, WeightsAreThoseOfTheContext) {
  for (const bool reference : {false, true}) {
    for (const int64_t queries : {1, 19}) {
      const at::Tensor positions = padded(3, 37);
      const Tensors in = inputs(3, queries, 37, 9, 4);
      const at::Tensor weights = additive_attention_weights(in[0], in[1], in[2], positions, reference);
      expect_close({weights.bmm(in[3])}, {op(reference, positions)(in)[0]}, 1e-13, "weights times values");
      expect_close({weights}, {additive_attention_weights(in[0], in[1], in[2], positions, true)}, 1e-13, "weights");
      EXPECT_NEAR(weights.slice(0, 0, 2).sum(-1).sub(1).abs().max().item<double>(), 0.0, 1e-13);
      EXPECT_EQ(rms(weights[2]), 0.0);
    }
  }
}

TEST(AdditiveAttention, SameBitsForAnyThreadsRunsAndNeighbours) {
  const Tensors in = inputs(3, 70, 300, 33, 20, at::kFloat);
  expect_same_bits_for_any_threads(op(false, padded(3, 300)), in);
  expect_rows_as_alone(op(false), in, {0, 1, 3});
}

TEST(AdditiveAttention, MemoryIsLinearInBothLengths) {
  memory_meter::install();
  // A tensor [Lq, S, H] would take 4 GB, [Lq, S] still 64 MB.
  const int64_t length = 4096, size = 64;
  Tensors leaves;
  for (const at::Tensor& t : inputs(1, length, length, size, size, at::kFloat))
    leaves.push_back(t.set_requires_grad(true));
  const int64_t before = memory_meter::current_bytes();
  memory_meter::reset_peak();
  torch::autograd::grad({op(false)(leaves)[0].sum()}, leaves);
  // Contexts, gradients, a copy of the keys and the parts' sums: 30 arrays of [4096, 64] or fewer.
  EXPECT_LT(memory_meter::peak_bytes() - before, 30 * length * size * 4);
}

TEST(AdditiveAttention, TakesBfloat16AndAnyStrides) {
  const Tensors in = inputs(2, 20, 30, 8, 12);
  expect_float_states(op(false), cast(in, at::kBFloat16), 1e-2);
  Tensors strided;
  for (const at::Tensor& t : in) strided.push_back(t.dim() == 3 ? t.transpose(1, 2).contiguous().transpose(1, 2) : t);
  expect_same_bits(op(false)(strided), op(false)(in), "strided");
}

TEST(AdditiveAttention, NothingToAttendToOrToAsk) {
  const Tensors in = inputs(2, 3, 4, 5, 6);
  for (const bool reference : {false, true}) {
    const Tensors none = op(reference)({in[0], in[1].slice(1, 0, 0), in[2], in[3].slice(1, 0, 0)});
    EXPECT_EQ(rms(none[0]), 0.0);
    EXPECT_EQ(none[0].sizes(), at::IntArrayRef({2, 3, 6}));
    EXPECT_EQ(op(reference)({in[0].slice(1, 0, 0), in[1], in[2], in[3]})[0].numel(), 0);
  }
}

TEST(AdditiveAttention, DoubleBackwardRaises) {
  const Tensors in = inputs(1, 4, 3, 5, 2);
  for (const bool reference : {false, true}) {
    const at::Tensor queries = in[0].detach().set_requires_grad(true);
    const Tensors first = torch::autograd::grad({op(reference)({queries, in[1], in[2], in[3]})[0].square().sum()},
                                                {queries}, {}, true, true);
    EXPECT_THROW(torch::autograd::grad({first[0].sum()}, {queries}), c10::Error);
  }
}

TEST(AdditiveAttention, MetaTensorsHaveTheShapesOfTheResult) {
  const auto meta = at::TensorOptions().device(at::kMeta).dtype(at::kFloat);
  for (const bool reference : {false, true}) {
    const Tensors in{at::empty({2, 5, 9}, meta).set_requires_grad(true), at::empty({2, 3, 9}, meta),
                     at::empty({9}, meta), at::empty({2, 3, 4}, meta)};
    const Tensors out = op(reference)(in);
    EXPECT_EQ(out[0].sizes(), at::IntArrayRef({2, 5, 4}));
    EXPECT_EQ(out[1].sizes(), at::IntArrayRef({2, 5}));
    EXPECT_EQ(torch::autograd::grad({out[0].sum()}, {in[0]})[0].sizes(), in[0].sizes());
    EXPECT_EQ(additive_attention_weights(in[0], in[1], in[2], {}, reference).sizes(), at::IntArrayRef({2, 5, 3}));
  }
}

TEST(AdditiveAttention, ReferenceCountsItsOperations) {
  const Tensors in = inputs(2, 3, 4, 5, 6);
  FlopMeter meter;
  op(true)(in);
  // A pair: a sum, a tanh, a product and a sum for each feature, 4 for its weight and 2 for each number of its value. A
  // query: 3 for the logarithm of its sum.
  EXPECT_EQ(meter.flops(), 2 * 3 * (4 * (4 * 5 + 4 + 2 * 6) + 3));
}

TEST(AdditiveAttention, RefusesWhatDoesNotFit) {
  const Tensors in = inputs(2, 4, 3, 5, 6);
  const auto refused = [](const auto& call) { EXPECT_THROW(call(), c10::Error); };
  refused([&] { additive_attention(in[0].slice(2, 1), in[1], in[2], in[3]); });             // two feature sizes
  refused([&] { additive_attention(in[0], in[1], in[2].slice(0, 1), in[3]); });             // v of another
  refused([&] { additive_attention(in[0], in[1], in[2], in[3].slice(1, 1)); });             // fewer values than keys
  refused([&] { additive_attention(in[0].slice(0, 1), in[1], in[2], in[3]); });             // two batch sizes
  refused([&] { additive_attention(in[0], in[1], in[2], in[3].to(at::kFloat)); });          // two dtypes
  refused([&] { additive_attention(in[0], in[1], in[2], in[3], mixed_positions(2, 4)); });  // positions of the queries
}

}  // namespace
}  // namespace additive_attention_test
}  // namespace hippodrome
