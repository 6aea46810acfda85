#include "architectures/transformer/causal_attention/causal_attention.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tensor.h>

#include <cmath>
#include <limits>

#include "architectures/transformer/causal_attention/op.h"
#include "tests/architectures/recurrent/scan_checks.h"

namespace hippodrome {
namespace causal_attention_test {
namespace {

using namespace scan_checks;

Op op(bool reference, int64_t window = 0, at::Tensor positions = {}) {
  return [=](const Tensors& in) -> Tensors {
    auto [y, lse] = causal_attention(in[0], in[1], in[2], std::nullopt, window, positions, reference);
    return {y, lse};
  };
}

// q [B, H, L, hd], k and v [B, G, T, hd].
Tensors inputs(int64_t batch, int64_t heads, int64_t kv_heads, int64_t queries, int64_t keys, int64_t size,
               at::ScalarType dtype = at::kDouble) {
  seed();
  return cast({at::randn({batch, queries, heads, size}, at::kDouble).transpose(1, 2),
               at::randn({batch, kv_heads, keys, size}, at::kDouble), at::randn({batch, kv_heads, keys, size}, at::kDouble)},
              dtype);
}

TEST(CausalAttention, ReferenceIsTheFormula) {
  const Tensors in = inputs(2, 4, 2, 3, 5, 6);
  const auto [y, lse] = causal_attention(in[0], in[1], in[2], 0.7, 4, std::nullopt, /*reference=*/true);
  for (int64_t b = 0; b < 2; ++b) {
    for (int64_t h = 0; h < 4; ++h) {
      for (int64_t i = 0; i < 3; ++i) {
        const int64_t last = i + 2, first = std::max<int64_t>(0, last - 3);
        const at::Tensor k = in[1][b][h / 2].slice(0, first, last + 1), v = in[2][b][h / 2].slice(0, first, last + 1);
        const at::Tensor scores = k.mv(in[0][b][h][i]).mul(0.7);
        EXPECT_LT(y[b][h][i].sub(scores.softmax(0).unsqueeze(0).mm(v).squeeze(0)).abs().max().item<double>(), 1e-14);
        EXPECT_NEAR(lse[b][h][i].item<double>(), scores.logsumexp({0}).item<double>(), 1e-14);
      }
    }
  }
}

// Lengths about the edges of the blocks of 48 queries and 64 keys, and few queries, which another kernel takes.
TEST(CausalAttention, FusedMatchesReference) {
  for (const auto& [queries, earlier] :
       std::vector<std::pair<int64_t, int64_t>>{{1, 0}, {1, 130}, {3, 61}, {47, 0}, {48, 16}, {49, 0}, {100, 0}, {65, 70}}) {
    for (const auto& [heads, kv_heads, size] :
         std::vector<std::tuple<int64_t, int64_t, int64_t>>{{4, 2, 6}, {3, 1, 7}, {1, 1, 40}}) {
      for (const int64_t window : {0, 1, 9, 70}) {
        for (const bool ragged : {false, true}) {
          const at::Tensor positions = ragged ? mixed_positions(3, queries + earlier) : at::Tensor();
          const Tensors in = inputs(3, heads, kv_heads, queries, queries + earlier, size);
          expect_fused_matches(
              op(false, window, positions), op(true, window, positions), in,
              ::testing::PrintToString(std::make_tuple(queries, earlier, heads, size, window, ragged)),
              {.gradients = 1e-11});
        }
      }
    }
  }
}

TEST(CausalAttention, GradientsMatchFiniteDifferences) {
  expect_gradients_match_differences(op(false), inputs(2, 4, 2, 9, 14, 5));
  expect_gradients_match_differences(op(false, 7, mixed_positions(3, 70)), inputs(3, 2, 1, 60, 70, 6));
  expect_gradients_match_differences(op(true, 7, mixed_positions(3, 70)), inputs(3, 2, 1, 60, 70, 6));
}

// Queries in any pieces, each with the tokens before it.
TEST(CausalAttention, PiecesEqualTheWhole) {
  const int64_t length = 71;
  for (const int64_t window : {0, 10}) {
    for (const bool ragged : {false, true}) {
      const at::Tensor positions = ragged ? mixed_positions(3, length) : at::Tensor();
      const Tensors in = inputs(3, 4, 2, length, length, 8);
      const Tensors cotangents = random_like(op(false, window, positions)(in));
      const Evaluation whole = evaluate(op(false, window, positions), in, cotangents);
      for (int64_t cut = 1; cut < length; cut += 5) {
        const Op halves = [&](const Tensors& t) -> Tensors {
          const auto part = [&](int64_t from, int64_t to) {
            return op(false, window, ragged ? positions.slice(1, 0, to) : at::Tensor())(
                {t[0].slice(2, from, to), t[1].slice(2, 0, to), t[2].slice(2, 0, to)});
          };
          const Tensors first = part(0, cut), second = part(cut, length);
          return {at::cat({first[0], second[0]}, 2), at::cat({first[1], second[1]}, 2)};
        };
        const Evaluation split = evaluate(halves, in, cotangents);
        expect_close(split.outputs, whole.outputs, 1e-13, "outputs cut at " + std::to_string(cut));
        expect_close(split.gradients, whole.gradients, 1e-12, "gradients cut at " + std::to_string(cut));
      }
    }
  }
}

// Caches longer than a chunk of the kernel for few queries.
TEST(CausalAttention, LongCachesAreJoinedFromChunks) {
  for (const int64_t window : {0, 1500}) {
    const Tensors in = inputs(1, 4, 2, 2, 3 * kAttentionStepKeys + 5, 6);
    expect_close(op(false, window)(in), op(true, window)(in), 1e-13, "window " + std::to_string(window));
  }
}

TEST(CausalAttention, PaddingGivesZeroAndIsNotRead) {
  for (const bool reference : {false, true}) {
    const at::Tensor positions = at::tensor({-1, 0, 1, -1, 2, -1}, at::kLong).view({1, 6});
    Tensors in = inputs(1, 2, 1, 6, 6, 4);
    const Tensors clean = op(reference, 0, positions)(in);
    for (const int64_t column : {0, 3, 5}) {
      for (at::Tensor& t : in) t.select(2, column).fill_(std::numeric_limits<double>::quiet_NaN());
    }
    const Tensors poisoned = op(reference, 0, positions)(in);
    expect_same_bits(poisoned, clean, "with NaN in the padding");
    for (const int64_t column : {0, 3, 5}) {
      EXPECT_EQ(poisoned[0].select(2, column).abs().max().item<double>(), 0.0);
      EXPECT_EQ(poisoned[1].select(2, column).abs().max().item<double>(), 0.0);
    }
  }
}

// Scores of some thousands overflow a plain exponential.
TEST(CausalAttention, StaysFiniteForLargeScores) {
  for (const int64_t queries : {2, 60}) {
    Tensors in = cast(inputs(1, 2, 2, queries, 60, 8), at::kFloat);
    in[0] = in[0].mul(3000.0);
    const Tensors fused = op(false)(in), exact = op(true)(cast(in, at::kDouble));
    EXPECT_TRUE(fused[0].isfinite().all().item<bool>());
    expect_close({fused[0]}, {exact[0]}, 1e-3, "large scores");
  }
}

TEST(CausalAttention, ResultsDoNotDependOnTheNumberOfThreads) {
  const Tensors in = cast(inputs(2, 4, 2, 150, 2200, 16), at::kFloat);
  const Tensors cotangents = random_like(op(false)(in));
  const Tensors one_query{in[0].slice(2, 149), in[1], in[2]};
  Evaluation one, two;
  Tensors step_one, step_two;
  with_threads(1, [&] {
    one = evaluate(op(false), in, cotangents);
    step_one = op(false)(one_query);
  });
  with_threads(2, [&] {
    two = evaluate(op(false), in, cotangents);
    step_two = op(false)(one_query);
  });
  expect_same_bits(one.outputs, two.outputs, "outputs");
  expect_same_bits(one.gradients, two.gradients, "gradients");
  expect_same_bits(step_one, step_two, "one query");
}

TEST(CausalAttention, TakesBfloat16AndAnyStrides) {
  const Tensors in = inputs(2, 4, 2, 20, 30, 8);
  const Tensors narrow = cast(in, at::kBFloat16);
  const Tensors y = op(false)(narrow);
  EXPECT_EQ(y[0].scalar_type(), at::kBFloat16);
  EXPECT_EQ(y[1].scalar_type(), at::kFloat);
  expect_close(y, op(true)(cast(narrow, at::kDouble)), 5e-3, "bfloat16");
  Tensors strided;
  for (const at::Tensor& t : in) strided.push_back(t.transpose(2, 3).contiguous().transpose(2, 3));
  expect_same_bits(op(false)(strided), op(false)(in), "strided");
}

TEST(CausalAttention, MemoryOfAWindowDoesNotGrowWithTheSquareOfTheLength) {
  // What a mask or scores of 40,000 × 40,000 would need does not fit this machine; the result is that of the last window.
  const int64_t length = 40'000, window = 50;
  const Tensors in = cast(inputs(1, 1, 1, length, length, 4), at::kFloat);
  const at::Tensor y = op(false, window)(in)[0];
  const Tensors tail{in[0].slice(2, length - 1), in[1].slice(2, length - window), in[2].slice(2, length - window)};
  expect_close({y.slice(2, length - 1)}, {op(true)(tail)[0]}, 1e-5, "last query");
}

TEST(CausalAttention, RefusesWhatDoesNotFit) {
  const Tensors in = inputs(1, 3, 1, 4, 6, 4);
  const auto refused = [](const auto& call) { EXPECT_THROW(call(), c10::Error); };
  refused([&] { causal_attention(in[1], in[0], in[0]); });                                   // more queries than tokens…
  refused([&] { causal_attention(in[0].slice(1, 0, 2), in[0], in[0]); });                      // heads that do not divide
  refused([&] { causal_attention(in[0], in[1], in[2].slice(2, 1)); });                         // k and v of two lengths
  refused([&] { causal_attention(in[0], in[1].to(at::kFloat), in[2].to(at::kFloat)); });       // two dtypes
  refused([&] { causal_attention(in[0], in[1], in[2], std::nullopt, -1); });                   // negative window
  refused([&] { causal_attention(in[0], in[1], in[2], std::nullopt, 0, mixed_positions(1, 4)); });
}

}  // namespace
}  // namespace causal_attention_test
}  // namespace hippodrome
