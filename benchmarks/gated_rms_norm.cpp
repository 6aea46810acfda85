// The gated RMSNorm against LibTorch's SiLU and product with the project's RMSNorm, in one run. Counters:
// ns_per_element (one channel of a row), speedup_vs_reference (against those).
#include "architectures/ssm/gated_rms_norm/gated_rms_norm.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/silu.h>
#include <benchmark/benchmark.h>
#include <torch/csrc/autograd/autograd.h>

#include <vector>

#include "benchmarks/side_by_side.h"
#include "core/layer/rms_norm.h"

namespace hippodrome {
namespace gated_rms_norm_benchmark {
namespace {

using at::Tensor;

// z as Mamba-2 has it: the first columns of a projection.
struct Inputs {
  Tensor x, z, weight;
  bool norm_before_gate;
  Inputs(int64_t rows, int64_t width, bool norm_first)
      : x(at::randn({rows, width})),
        z(at::randn({rows, 2 * width + 264}).slice(1, 0, width)),
        weight(at::randn({width})),
        norm_before_gate(norm_first) {}
  Tensor fused() const { return gated_rms_norm(x, z, weight, {.norm_before_gate = norm_before_gate}); }
  Tensor composite() const {
    return norm_before_gate ? rms_norm(x, weight, 1e-5).mul(at::silu(z)) : rms_norm(x.mul(at::silu(z)), weight, 1e-5);
  }
};

void gated_rms_norm_forward(benchmark::State& state) {
  at::set_num_threads(static_cast<int>(state.range(3)));
  const at::NoGradGuard no_grad;
  const Inputs in(state.range(0), state.range(1), state.range(2) != 0);
  side_by_side::measure_with_reference(
      state, static_cast<double>(in.x.numel()), [&] { in.fused(); }, [&] { in.composite(); });
}

void gated_rms_norm_forward_backward(benchmark::State& state) {
  at::set_num_threads(static_cast<int>(state.range(3)));
  const Inputs in(state.range(0), state.range(1), state.range(2) != 0);
  const Tensor grad_y = at::randn({state.range(0), state.range(1)});
  const std::vector<Tensor> leaves = {in.x, in.z, in.weight};
  for (Tensor leaf : leaves) leaf.requires_grad_(true);
  side_by_side::measure_with_reference(
      state, static_cast<double>(in.x.numel()), [&] { torch::autograd::grad({in.fused()}, leaves, {grad_y}); },
      [&] { torch::autograd::grad({in.composite()}, leaves, {grad_y}); });
}

void shapes(benchmark::internal::Benchmark* all) {
  all->ArgNames({"rows", "W", "norm_first", "threads"})->UseManualTime();
  for (const int64_t width : {512, 1536, 4096}) {
    for (const int64_t rows : {1, 64, 4096}) all->Args({rows, width, 0, 1});
  }
  all->Args({1024, 1536, 1, 1})->Args({4096, 1536, 0, 2});
}
BENCHMARK(gated_rms_norm_forward)->Apply(shapes);
BENCHMARK(gated_rms_norm_forward_backward)->Apply(shapes);

}  // namespace
}  // namespace gated_rms_norm_benchmark
}  // namespace hippodrome
