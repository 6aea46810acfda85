// Causal convolution against its own plain loops, in one run. Counters: ns_per_element (one (t, channel)),
// speedup_vs_reference.
#include "architectures/ssm/causal_conv1d/causal_conv1d.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/randn.h>
#include <benchmark/benchmark.h>
#include <malloc.h>
#include <time.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <vector>

namespace hippodrome {
namespace causal_conv1d_benchmark {
namespace {

using at::Tensor;

// As the program does at its start: freed memory stays with the process, so that results do not pay for fresh pages
// each time. 32 MiB is the most that glibc takes.
void keep_freed_memory() {
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
}

// On one thread the thread's own time: on a busy machine the long reference runs are interrupted, which would flatter
// us.
double seconds(const auto& work) {
  const clockid_t clock = at::get_num_threads() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
  timespec begin, end;
  clock_gettime(clock, &begin);
  work();
  clock_gettime(clock, &end);
  return static_cast<double>(end.tv_sec - begin.tv_sec) + 1e-9 * static_cast<double>(end.tv_nsec - begin.tv_nsec);
}

double median(std::vector<double> samples) {
  std::nth_element(samples.begin(), samples.begin() + samples.size() / 2, samples.end());
  return samples[samples.size() / 2];
}

// The slow side runs every eighth time, so that both see the same neighbours on the machine.
void measure(benchmark::State& state, double elements, const auto& fused, const auto& reference) {
  keep_freed_memory();
  std::vector<double> fused_times, reference_times;
  for (auto _ : state) {
    fused_times.push_back(seconds(fused));
    state.SetIterationTime(fused_times.back());
    if (fused_times.size() % 8 == 1) reference_times.push_back(seconds(reference));
  }
  state.counters["ns_per_element"] = median(fused_times) / elements * 1e9;
  state.counters["speedup_vs_reference"] = median(reference_times) / median(fused_times);
}

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
  measure(
      state, static_cast<double>(in.x.numel()), [&] { causal_conv1d(in.x, in.weight, in.bias, "silu", in.state); },
      [&] { causal_conv1d_reference(in.x, in.weight, in.bias, "silu", in.state); });
}

void causal_conv1d_forward_backward(benchmark::State& state) {
  at::set_num_threads(static_cast<int>(state.range(4)));
  Inputs in(state.range(0), state.range(1), state.range(2), state.range(3));
  const Tensor grad_y = at::randn({state.range(0), state.range(1), state.range(2)}).transpose(1, 2);
  const std::vector<Tensor> leaves = {in.x, in.weight, in.bias};
  for (Tensor leaf : leaves) leaf.requires_grad_(true);
  measure(
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
