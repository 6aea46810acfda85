// WKV against its own plain loops, in one run. Counters: ns_per_element (one (t, channel)), speedup_vs_reference.
#include "architectures/rwkv/wkv4/wkv4.h"

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
namespace wkv4_benchmark {
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
  measure(
      state, static_cast<double>(in.k.numel()), [&] { wkv4(in.w, in.u, in.k, in.v, in.state); },
      [&] { wkv4_reference(in.w, in.u, in.k, in.v, in.state); });
}

void forward_backward(benchmark::State& state, at::ScalarType type) {
  at::set_num_threads(static_cast<int>(state.range(3)));
  Inputs in(state.range(0), state.range(1), state.range(2), type);
  const Tensor grad_y = at::randn(in.k.sizes(), type);
  const std::vector<Tensor> leaves = {in.w, in.u, in.k, in.v};
  for (Tensor leaf : leaves) leaf.requires_grad_(true);
  measure(
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
