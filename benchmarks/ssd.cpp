// SSD: fused kernel and plain loops on the same data, at the shape of a Mamba-2 mixer of width 256. Per token; the
// ratio is of two measured in turns within one run.
#include "architectures/ssm/ssd/ssd.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <benchmark/benchmark.h>
#include <torch/csrc/autograd/autograd.h>

#include <tuple>
#include <vector>

#include "architectures/ssm/ssd/op.h"
#include "benchmarks/side_by_side.h"

namespace hippodrome::ssd_benchmark {
namespace {

using at::Tensor;

struct Workload {
  Workload(int64_t heads, int64_t length, int64_t states, int64_t chunk) {
    constexpr int64_t kHeadSize = 64;
    arguments.x = at::randn({1, length, heads, kHeadSize});
    arguments.dt = at::randn({1, length, heads});
    arguments.A = -at::rand({heads}) * 15.0 - 1.0;
    arguments.B = at::randn({1, length, 1, states});
    arguments.C = at::randn({1, length, 1, states});
    arguments.D = at::randn({heads});
    arguments.z = at::randn({1, length, heads, kHeadSize});
    arguments.dt_bias = at::randn({heads}) - 4.0;
    arguments.dt_softplus = true;
    arguments.chunk = chunk;
    dy = at::randn({1, length, heads, kHeadSize});
  }

  std::tuple<Tensor, Tensor> call(bool reference) const {
    return reference ? ssd_reference(arguments) : ssd(arguments);
  }

  void run(bool reference, bool backward) const {
    if (!backward) {
      const at::NoGradGuard no_grad;
      benchmark::DoNotOptimize(call(reference));
      return;
    }
    std::vector<Tensor> inputs = {arguments.x, arguments.dt, arguments.A,  arguments.B,
                                  arguments.C, *arguments.D, *arguments.z, *arguments.dt_bias};
    for (Tensor& t : inputs) t.requires_grad_(true);
    benchmark::DoNotOptimize(torch::autograd::grad({std::get<0>(call(reference))}, inputs, {dy}));
    for (Tensor& t : inputs) t.requires_grad_(false);
  }

  SsdArguments arguments;
  Tensor dy;
};

// Arguments: heads, length, states, chunk.
void fused(benchmark::State& state, bool backward) {
  const Workload work(state.range(0), state.range(1), state.range(2), state.range(3));
  work.run(false, backward);
  state.counters["ns_per_token"] =
      side_by_side::ns_per_element(state, static_cast<double>(state.range(1)), [&] { work.run(false, backward); });
  state.SetLabel(ssd_kernel::instruction_set());
}

void against_plain_loops(benchmark::State& state, bool backward) {
  const Workload work(state.range(0), state.range(1), state.range(2), state.range(3));
  for (auto _ : state) {
    state.counters["speedup_vs_reference"] =
        side_by_side::ratio([&] { work.run(false, backward); }, [&] { work.run(true, backward); }, 3);
  }
  state.SetLabel(ssd_kernel::instruction_set());
}

// One token with the state carried over, as decoding does.
void step(benchmark::State& state) {
  Workload work(state.range(0), 1, state.range(1), 256);
  const at::NoGradGuard no_grad;
  const Tensor carried = at::randn({1, state.range(0), 64, state.range(1)});
  for (auto _ : state) benchmark::DoNotOptimize(ssd_in_place(work.arguments, carried));
  state.SetLabel(ssd_kernel::instruction_set());
}

const std::vector<std::string> kNames = {"heads", "length", "states", "chunk"};

BENCHMARK_CAPTURE(fused, ssd_forward, false)
    ->Name("ssd_forward")
    ->ArgNames(kNames)
    ->Args({8, 1024, 128, 256})
    ->Args({24, 1024, 128, 256})
    ->Args({8, 1024, 16, 256})
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(fused, ssd_forward_backward, true)
    ->Name("ssd_forward_backward")
    ->ArgNames(kNames)
    ->Args({8, 1024, 128, 64})
    ->Args({8, 1024, 128, 256})
    ->Args({8, 1024, 128, 1024})
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(against_plain_loops, ssd_forward, false)
    ->Name("ssd_forward/against_plain_loops")
    ->ArgNames(kNames)
    ->Args({8, 256, 128, 256})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(against_plain_loops, ssd_forward_backward, true)
    ->Name("ssd_forward_backward/against_plain_loops")
    ->ArgNames(kNames)
    ->Args({8, 256, 128, 256})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(step)
    ->Name("ssd_step")
    ->ArgNames({"heads", "states"})
    ->Args({8, 128})
    ->Args({24, 128})
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace hippodrome::ssd_benchmark
