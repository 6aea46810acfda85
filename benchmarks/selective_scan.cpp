// The selective scan: fused kernel and plain loops on the same data. Per (batch, time, channel) element, and the ratio
// of the two measured in turns within one run. Shapes: [batch, channels, length], N states.
#include "architectures/ssm/selective_scan/selective_scan.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <benchmark/benchmark.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <ctime>
#include <string>
#include <tuple>
#include <vector>

#include "architectures/ssm/selective_scan/op.h"

namespace hippodrome::selective_scan_benchmark {
namespace {

using at::Tensor;

struct Workload {
  Workload(int64_t batch, int64_t channels, int64_t length, int64_t states) : elements(batch * channels * length) {
    arguments.u = at::randn({batch, length, channels}).transpose(1, 2);
    arguments.delta = at::randn({batch, length, channels}).transpose(1, 2);
    arguments.A = -at::rand({channels, states}) * static_cast<double>(states) - 0.5;
    arguments.B = at::randn({batch, length, states}).transpose(1, 2);
    arguments.C = at::randn({batch, length, states}).transpose(1, 2);
    arguments.D = at::randn({channels});
    arguments.z = at::randn({batch, length, channels}).transpose(1, 2);
    arguments.delta_bias = at::randn({channels}) - 4.0;
    arguments.delta_softplus = true;
    dy = at::randn({batch, length, channels}).transpose(1, 2);
  }

  std::tuple<Tensor, Tensor> call(bool reference) const {
    return reference ? selective_scan_reference(arguments) : selective_scan(arguments);
  }

  void forward(bool reference) const {
    const at::NoGradGuard no_grad;
    benchmark::DoNotOptimize(call(reference));
  }

  void forward_and_backward(bool reference) const {
    std::vector<Tensor> inputs = {arguments.u, arguments.delta, arguments.A,  arguments.B,
                                  arguments.C, *arguments.D,    *arguments.z, *arguments.delta_bias};
    for (Tensor& t : inputs) t.requires_grad_(true);
    benchmark::DoNotOptimize(torch::autograd::grad({std::get<0>(call(reference))}, inputs, {dy}));
    for (Tensor& t : inputs) t.requires_grad_(false);
  }

  void run(bool reference, bool backward) const { backward ? forward_and_backward(reference) : forward(reference); }

  SelectiveScanArguments arguments;
  Tensor dy;
  int64_t elements;
};

// Of the calling thread alone where it does all the work: then a busy neighbour costs nothing but its share of the
// caches.
double clock_seconds(bool one_thread) {
  timespec now;
  clock_gettime(one_thread ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double seconds(const Workload& work, bool reference, bool backward) {
  const bool one_thread = at::get_num_threads() == 1;
  const double start = clock_seconds(one_thread);
  work.run(reference, backward);
  return clock_seconds(one_thread) - start;
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// Sets LibTorch's number of threads for a scope.
class Threads {
 public:
  explicit Threads(int64_t count) : before_(at::get_num_threads()) { at::set_num_threads(static_cast<int>(count)); }
  ~Threads() { at::set_num_threads(before_); }

 private:
  int before_;
};

// Arguments of a benchmark: channels, length, states, threads.
void measure(benchmark::State& state, bool reference, bool backward) {
  const Threads threads(state.range(3));
  const Workload work(1, state.range(0), state.range(1), state.range(2));
  work.run(reference, backward);
  std::vector<double> times;
  for (auto _ : state) {
    times.push_back(seconds(work, reference, backward));
    state.SetIterationTime(times.back());
  }
  state.counters["ns_per_element"] = median(times) * 1e9 / static_cast<double>(work.elements);
  state.SetLabel(reference ? "plain loops" : s6::instruction_set());
}

// Fused and plain in turns, so that a change in the machine's load meets both.
void compare(benchmark::State& state, bool backward) {
  const Threads threads(state.range(3));
  const Workload work(1, state.range(0), state.range(1), state.range(2));
  work.run(false, backward);
  work.run(true, backward);
  std::vector<double> fused, plain;
  for (auto _ : state) {
    plain.push_back(seconds(work, true, backward));
    for (int i = 0; i < 3; ++i) fused.push_back(seconds(work, false, backward));
    state.SetIterationTime(fused.back());
  }
  const double elements = static_cast<double>(work.elements);
  state.counters["speedup_vs_reference"] = median(plain) / median(fused);
  state.counters["ns_per_element"] = median(fused) * 1e9 / elements;
  state.counters["reference_ns_per_element"] = median(plain) * 1e9 / elements;
  state.SetLabel(s6::instruction_set());
}

// One token with the state carried over, as decoding does.
void step(benchmark::State& state) {
  const Threads threads(1);
  Workload work(state.range(1), state.range(0), 1, 16);
  const at::NoGradGuard no_grad;
  work.arguments.initial_state = at::randn({state.range(1), state.range(0), 16});
  for (auto _ : state) benchmark::DoNotOptimize(work.call(false));
  state.SetLabel(s6::instruction_set());
}

const std::vector<std::string> kNames = {"channels", "length", "states", "threads"};

BENCHMARK_CAPTURE(compare, selective_scan_forward, false)
    ->Name("selective_scan_forward/against_plain_loops")
    ->ArgNames(kNames)
    ->Args({1536, 512, 16, 1})
    ->Iterations(7)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(compare, selective_scan_forward_backward, true)
    ->Name("selective_scan_forward_backward/against_plain_loops")
    ->ArgNames(kNames)
    ->Args({1536, 512, 16, 1})
    ->Iterations(5)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(measure, selective_scan_forward_reference, true, false)
    ->Name("selective_scan_forward_reference")
    ->ArgNames(kNames)
    ->Args({1536, 512, 16, 1})
    ->Iterations(5)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(measure, selective_scan_forward, false, false)
    ->Name("selective_scan_forward")
    ->ArgNames(kNames)
    ->Args({1536, 2048, 16, 1})
    ->Args({1536, 2048, 16, 2})
    ->Args({1536, 2048, 64, 1})
    ->Args({512, 512, 16, 1})
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(measure, selective_scan_forward_backward_reference, true, true)
    ->Name("selective_scan_forward_backward_reference")
    ->ArgNames(kNames)
    ->Args({1536, 512, 16, 1})
    ->Iterations(5)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(measure, selective_scan_forward_backward, false, true)
    ->Name("selective_scan_forward_backward")
    ->ArgNames(kNames)
    ->Args({1536, 2048, 16, 1})
    ->Args({1536, 2048, 16, 2})
    ->Args({1536, 2048, 64, 1})
    ->Args({512, 512, 16, 1})
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(step)
    ->Name("selective_scan_step")
    ->ArgNames({"channels", "batch"})
    ->Args({512, 1})
    ->Args({1536, 1})
    ->Args({1536, 8})
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace hippodrome::selective_scan_benchmark
