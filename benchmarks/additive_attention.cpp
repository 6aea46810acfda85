// additive_attention against the form that LibTorch's functions give, which holds tanh(q + k) as [B, Lq, S, H].
// Arguments: B, Lq, S, H (and M = H). An element is one feature of one pair of a query and a key. Peaks are of tensors
// beyond those given.
#include "architectures/recurrent/additive_attention/additive_attention.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tanh.h>
#include <benchmark/benchmark.h>
#include <torch/csrc/autograd/autograd.h>

#include <tuple>

#include "benchmarks/side_by_side.h"
#include "core/tensor/memory_meter.h"

namespace hippodrome {
namespace additive_attention_benchmark {
namespace {

using at::Tensor;

struct Problem {
  int64_t batch, queries, keys, size;
  Tensor q, k, v, values, cotangent;

  explicit Problem(const benchmark::State& s)
      : batch(s.range(0)), queries(s.range(1)), keys(s.range(2)), size(s.range(3)) {
    q = at::randn({batch, queries, size}).set_requires_grad(true);
    k = at::randn({batch, keys, size}).set_requires_grad(true);
    v = at::randn({size}).mul(0.1).set_requires_grad(true);
    values = at::randn({batch, keys, size}).set_requires_grad(true);
    cotangent = at::randn({batch, queries, size});
  }

  double elements() const { return static_cast<double>(batch * queries * keys * size); }

  void ours(bool backward, bool reference = false) const {
    const at::AutoGradMode mode(backward);
    const Tensor c = std::get<0>(additive_attention(q, k, v, values, {}, reference));
    if (backward) torch::autograd::grad({c}, {q, k, v, values}, {cotangent});
  }
  void libtorch(bool backward) const {
    const at::AutoGradMode mode(backward);
    const Tensor weights = at::tanh(q.unsqueeze(2).add(k.unsqueeze(1))).matmul(v).softmax(-1);
    const Tensor c = weights.bmm(values);
    if (backward) torch::autograd::grad({c}, {q, k, v, values}, {cotangent});
  }
};

template <class F>
double peak_megabytes(const F& work) {
  const int64_t before = memory_meter::current_bytes();
  memory_meter::reset_peak();
  work();
  return static_cast<double>(memory_meter::peak_bytes() - before) / 1e6;
}

void attention(benchmark::State& state, bool backward) {
  memory_meter::install();
  const Problem problem(state);
  state.counters["ns_per_element"] =
      side_by_side::ns_per_element(state, problem.elements(), [&] { problem.ours(backward); });
  state.counters["speedup_vs_libtorch"] = side_by_side::ratio(
      [&] { problem.ours(backward); }, [&] { problem.libtorch(backward); }, problem.elements() > 1e8 ? 3 : 9);
  state.counters["peak_MB"] = peak_megabytes([&] { problem.ours(backward); });
  state.counters["peak_MB_libtorch"] = peak_megabytes([&] { problem.libtorch(backward); });
  if (problem.elements() < 2e7) {
    state.counters["speedup_vs_reference"] =
        side_by_side::ratio([&] { problem.ours(backward); }, [&] { problem.ours(backward, true); }, 3);
  }
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"B", "Lq", "S", "H"})->Unit(benchmark::kMillisecond)->UseRealTime();
  b->Args({1, 1024, 1024, 256})->Args({16, 40, 40, 256})->Args({1, 200, 200, 256});
}
BENCHMARK_CAPTURE(attention, additive_attention_forward, false)->Apply(shapes)->Args({32, 1, 40, 256});
BENCHMARK_CAPTURE(attention, additive_attention_with_backward, true)->Apply(shapes);

}  // namespace
}  // namespace additive_attention_benchmark
}  // namespace hippodrome
