// Causal convolution against its own plain loops, in one run. Counters: ns_per_element (one (t, channel)),
// speedup_vs_reference.
#include "architectures/ssm/causal_conv1d/causal_conv1d.h"

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
namespace causal_conv1d_benchmark {
namespace {

using at::Tensor;

// x as a mixer has it: the first half of the columns of a projection [B, L, 2 D].
struct Inputs {
  Tensor x, weight, bias, state;
  Inputs(int64_t batch, int64_t time, int64_t channels, int64_t taps)
      : x(at::randn({batch, time, 2 * channels}).slice(2, 0, channels).transpose(1, 2)),
        weight(at::randn({channels, taps})),
        bias(at::randn({channels})),
        state(at::randn({batch, channels, taps - 1})) {}
};

void causal_conv1d_forward(benchmark::State& state) {
  at::set_num_threads(static_cast<int>(state.range(4)));
  const at::NoGradGuard no_grad;
  const Inputs in(state.range(0), state.range(1), state.range(2), state.range(3));
  side_by_side::measure_with_reference(
      state, static_cast<double>(in.x.numel()), [&] { causal_conv1d(in.x, in.weight, in.bias, "silu", in.state); },
      [&] { causal_conv1d_reference(in.x, in.weight, in.bias, "silu", in.state); });
}

void causal_conv1d_forward_backward(benchmark::State& state) {
  at::set_num_threads(static_cast<int>(state.range(4)));
  Inputs in(state.range(0), state.range(1), state.range(2), state.range(3));
  const Tensor grad_y = at::randn({state.range(0), state.range(1), state.range(2)}).transpose(1, 2);
  const std::vector<Tensor> leaves = {in.x, in.weight, in.bias};
  for (Tensor leaf : leaves) leaf.requires_grad_(true);
  side_by_side::measure_with_reference(
      state, static_cast<double>(in.x.numel()),
      [&] { torch::autograd::grad({causal_conv1d(in.x, in.weight, in.bias, "silu").y}, leaves, {grad_y}); },
      [&] { torch::autograd::grad({causal_conv1d_reference(in.x, in.weight, in.bias, "silu").y}, leaves, {grad_y}); });
}

// B, L, D, K, threads; the last forward: one token of decoding.
BENCHMARK(causal_conv1d_forward)
    ->ArgNames({"B", "L", "D", "K", "threads"})
    ->Args({1, 1024, 512, 4, 1})
    ->Args({1, 1024, 512, 4, 2})
    ->Args({4, 1024, 1536, 4, 1})
    ->Args({1, 1024, 512, 7, 1})
    ->Args({1, 1, 512, 4, 1})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(causal_conv1d_forward_backward)
    ->ArgNames({"B", "L", "D", "K", "threads"})
    ->Args({1, 1024, 512, 4, 1})
    ->Args({1, 1024, 512, 4, 2})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace causal_conv1d_benchmark
}  // namespace hippodrome
