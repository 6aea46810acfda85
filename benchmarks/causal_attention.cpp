// causal_attention against its plain loops and against LibTorch's scaled_dot_product_attention. Arguments: B, L, T, H, G, hd,
// window. An element is one pair of a query and a key that it sees, in one head.
#include "architectures/transformer/causal_attention/causal_attention.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <benchmark/benchmark.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <tuple>

#include "benchmarks/side_by_side.h"

namespace hippodrome {
namespace causal_attention_benchmark {
namespace {

using at::Tensor;

struct Problem {
  int64_t batch, queries, keys, heads, kv_heads, size, window;
  Tensor q, k, v, cotangent;

  explicit Problem(const benchmark::State& s)
      : batch(s.range(0)),
        queries(s.range(1)),
        keys(s.range(2)),
        heads(s.range(3)),
        kv_heads(s.range(4)),
        size(s.range(5)),
        window(s.range(6)) {
    const auto tokens_first = [&](int64_t tokens, int64_t of) {
      return at::randn({batch, tokens, of, size}).transpose(1, 2).set_requires_grad(true);
    };
    q = tokens_first(queries, heads);
    k = tokens_first(keys, kv_heads);
    v = tokens_first(keys, kv_heads);
    cotangent = at::randn({batch, heads, queries, size});
  }

  double elements() const {
    double pairs = 0;
    for (int64_t i = keys - queries; i < keys; ++i) {
      pairs += static_cast<double>(window > 0 ? std::min(window, i + 1) : i + 1);
    }
    return pairs * static_cast<double>(batch * heads);
  }

  void ours(bool reference, bool backward) const {
    const at::AutoGradMode mode(backward);
    const Tensor y = std::get<0>(causal_attention(q, k, v, std::nullopt, window, std::nullopt, reference));
    if (backward) torch::autograd::grad({y}, {q, k, v}, {cotangent});
  }
  // A window, or a continued cache, needs a mask there; grouped keys are repeated, as LibTorch's own switch does.
  void libtorch(bool backward) const {
    const at::AutoGradMode mode(backward);
    const int64_t shared = heads / kv_heads;
    const auto all_heads = [&](const Tensor& t) { return shared == 1 ? t : t.repeat_interleave(shared, 1); };
    std::optional<Tensor> mask;
    if (window > 0 || (queries < keys && queries > 1)) {
      mask = at::ones({queries, keys}, at::kBool).tril(keys - queries);
      if (window > 0) mask = mask->triu(keys - queries - window + 1);
    }
    const Tensor y =
        at::scaled_dot_product_attention(q, all_heads(k), all_heads(v), mask, 0.0, !mask.has_value() && queries > 1);
    if (backward) torch::autograd::grad({y}, {q, k, v}, {cotangent});
  }
};

void attention(benchmark::State& state, bool backward) {
  const Problem problem(state);
  state.counters["ns_per_element"] =
      side_by_side::ns_per_element(state, problem.elements(), [&] { problem.ours(false, backward); });
  state.counters["speedup_vs_libtorch"] =
      side_by_side::ratio([&] { problem.ours(false, backward); }, [&] { problem.libtorch(backward); }, 5);
  if (problem.elements() < 5e6) {
    state.counters["speedup_vs_reference"] =
        side_by_side::ratio([&] { problem.ours(false, backward); }, [&] { problem.ours(true, backward); }, 3);
  }
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"B", "L", "T", "H", "G", "hd", "window"})->Unit(benchmark::kMillisecond)->UseRealTime();
  b->Args({4, 1024, 1024, 4, 4, 64, 0})->Args({1, 4096, 4096, 4, 4, 64, 0})->Args({1, 4096, 4096, 4, 4, 64, 256});
  b->Args({1, 2048, 2048, 8, 2, 32, 0});
}
BENCHMARK_CAPTURE(attention, causal_attention_forward, false)
    ->Apply(shapes)
    ->Args({1, 512, 4096, 4, 4, 64, 0})
    ->Args({1, 1, 256, 4, 4, 64, 0})
    ->Args({1, 1, 4096, 4, 4, 64, 0})
    ->Args({1, 1, 4096, 8, 2, 64, 0});
BENCHMARK_CAPTURE(attention, causal_attention_with_backward, true)->Apply(shapes);

}  // namespace
}  // namespace causal_attention_benchmark
}  // namespace hippodrome
