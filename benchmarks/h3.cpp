// The pieces of H3 and the layer. causal_fir against LibTorch's FFTs on the same taps (arguments B, D, L, K); the
// layer's recurrence against its FFT convolution (B, D, L). An element is one (row, token, channel).
#include "architectures/ssm/h3/h3.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/randn.h>
#include <benchmark/benchmark.h>
#include <torch/csrc/autograd/autograd.h>

#include <tuple>
#include <vector>

#include "architectures/ssm/causal_fir/causal_fir.h"
#include "architectures/ssm/s4d/convolution.h"
#include "benchmarks/side_by_side.h"

namespace hippodrome {
namespace h3_benchmark {
namespace {

void fir(benchmark::State& state, bool backward) {
  const int64_t batch = state.range(0), channels = state.range(1), length = state.range(2), taps = state.range(3);
  const Tensor x = at::randn({batch, length, channels}).set_requires_grad(true);
  const Tensor weight = at::randn({taps, channels}).set_requires_grad(true);
  const Tensor cotangent = at::randn({batch, length, channels});
  const auto run = [&](const auto& op) {
    const at::AutoGradMode mode(backward);
    const Tensor y = op();
    if (backward) torch::autograd::grad({y}, {x, weight}, {cotangent});
  };
  const auto direct = [&] { run([&] { return std::get<0>(causal_fir(x, weight)); }); };
  const auto by_fft = [&] {
    run([&] { return fft_convolution(x, at::constant_pad_nd(weight.t(), {0, length - taps})); });
  };
  state.counters["ns_per_element"] = side_by_side::ns_per_element(state, static_cast<double>(x.numel()), direct);
  state.counters["speedup_vs_fft"] = side_by_side::ratio(direct, by_fft, 3);
}
BENCHMARK_CAPTURE(fir, forward, false)->Args({1, 256, 4096, 64})->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK_CAPTURE(fir, with_backward, true)->Args({1, 256, 4096, 64})->Unit(benchmark::kMillisecond)->UseRealTime();

void layer(benchmark::State& state, bool backward) {
  const int64_t batch = state.range(0), width = state.range(1), length = state.range(2);
  const Site site{.name = "h3", .width = width, .output_width = width, .repeat = 0, .repeats = 1, .blocks = 2};
  H3::Config config;
  H3 scan(config, site);
  config.kernel = "convolution";
  H3 convolution(config, site);
  for (H3* layer : {&scan, &convolution}) {
    layer->parameters().materialise(1, at::TensorOptions().dtype(at::kFloat));
    layer->parameters().set_requires_grad(backward);
  }
  const Tensor x = at::randn({batch, length, width});
  const Context context = Context::plain(batch, length, 0, x.device());
  const auto run = [&](H3& layer) {
    const at::AutoGradMode mode(backward);
    const Tensor y = layer.forward(x, context, nullptr);
    if (backward) y.sum().backward();
  };
  state.counters["ns_per_element"] =
      side_by_side::ns_per_element(state, static_cast<double>(x.numel()), [&] { run(scan); });
  state.counters["speedup_vs_convolution"] = side_by_side::ratio([&] { run(scan); }, [&] { run(convolution); }, 3);
}
void lengths(benchmark::internal::Benchmark* b) {
  for (const int64_t length : {1024, 4096, 16384}) b->Args({1, 256, length});
  b->Unit(benchmark::kMillisecond)->UseRealTime()->Iterations(3);
}
BENCHMARK_CAPTURE(layer, h3_forward, false)->Apply(lengths);
BENCHMARK_CAPTURE(layer, h3_with_backward, true)->Apply(lengths);

}  // namespace
}  // namespace h3_benchmark
}  // namespace hippodrome
