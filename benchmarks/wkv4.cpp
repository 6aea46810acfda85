// WKV against its own plain loops, in one run. Counters: ns_per_element (one (t, channel)), speedup_vs_reference.
#include "architectures/rwkv/wkv4/wkv4.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/randn.h>
#include <benchmark/benchmark.h>
#include <torch/csrc/autograd/autograd.h>

#include <vector>

#include "benchmarks/side_by_side.h"

namespace hippodrome {
namespace wkv4_benchmark {
namespace {

using at::Tensor;

struct Inputs {
  Tensor w, u, k, v, state;
  Inputs(int64_t batch, int64_t time, int64_t channels, at::ScalarType type)
      : w(-at::randn({channels}, type).exp()),
        u(at::randn({channels}, type)),
        k(at::randn({batch, time, channels}, type)),
        v(at::randn({batch, time, channels}, type)),
        state(at::randn({batch, 3, channels}, type).abs()) {}
};

void forward(benchmark::State& state, at::ScalarType type) {
  at::set_num_threads(static_cast<int>(state.range(3)));
  const at::NoGradGuard no_grad;
  const Inputs in(state.range(0), state.range(1), state.range(2), type);
  side_by_side::measure_with_reference(
      state, static_cast<double>(in.k.numel()), [&] { wkv4(in.w, in.u, in.k, in.v, in.state); },
      [&] { wkv4_reference(in.w, in.u, in.k, in.v, in.state); });
}

void forward_backward(benchmark::State& state, at::ScalarType type) {
  at::set_num_threads(static_cast<int>(state.range(3)));
  Inputs in(state.range(0), state.range(1), state.range(2), type);
  const Tensor grad_y = at::randn(in.k.sizes(), type);
  const std::vector<Tensor> leaves = {in.w, in.u, in.k, in.v};
  for (Tensor leaf : leaves) leaf.requires_grad_(true);
  side_by_side::measure_with_reference(
      state, static_cast<double>(in.k.numel()),
      [&] { torch::autograd::grad({wkv4(in.w, in.u, in.k, in.v).y}, leaves, {grad_y}); },
      [&] { torch::autograd::grad({wkv4_reference(in.w, in.u, in.k, in.v).y}, leaves, {grad_y}); });
}

void wkv4_forward_float(benchmark::State& state) { forward(state, at::kFloat); }
void wkv4_forward_double(benchmark::State& state) { forward(state, at::kDouble); }
void wkv4_forward_backward_float(benchmark::State& state) { forward_backward(state, at::kFloat); }

// B, T, C, threads; the last: one token of decoding.
BENCHMARK(wkv4_forward_float)
    ->ArgNames({"B", "T", "C", "threads"})
    ->Args({1, 1024, 512, 1})
    ->Args({4, 1024, 512, 1})
    ->Args({4, 1024, 512, 2})
    ->Args({1, 4096, 1024, 1})
    ->Args({1, 1, 512, 1})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(wkv4_forward_double)
    ->ArgNames({"B", "T", "C", "threads"})
    ->Args({1, 1024, 512, 1})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(wkv4_forward_backward_float)
    ->ArgNames({"B", "T", "C", "threads"})
    ->Args({1, 1024, 512, 1})
    ->Args({4, 1024, 512, 2})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace wkv4_benchmark
}  // namespace hippodrome
