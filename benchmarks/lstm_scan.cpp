// lstm_scan against its plain loops and against at::lstm. Arguments: B, L, H.
// An element is one (row, token, unit); LibTorch's comparison includes the input projection on both sides.
#include "architectures/recurrent/lstm_scan/lstm_scan.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/lstm.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <benchmark/benchmark.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <tuple>
#include <vector>

#include "benchmarks/side_by_side.h"

namespace hippodrome {
namespace lstm_scan_benchmark {
namespace {

using at::Tensor;

struct Problem {
  int64_t batch, length, hidden;
  Tensor x, weight_ih, weight_hh, bias, zero_bias, h0, c0, gates, cotangent;

  explicit Problem(const benchmark::State& state)
      : batch(state.range(0)), length(state.range(1)), hidden(state.range(2)) {
    const double scale = 1.0 / std::sqrt(static_cast<double>(hidden));
    x = at::randn({batch, length, hidden});
    weight_ih = at::randn({4 * hidden, hidden}).mul(scale).set_requires_grad(true);
    weight_hh = at::randn({4 * hidden, hidden}).mul(scale).set_requires_grad(true);
    bias = at::zeros({4 * hidden}).set_requires_grad(true);
    zero_bias = at::zeros({4 * hidden});
    h0 = at::zeros({batch, hidden});
    c0 = at::zeros({batch, hidden});
    gates = at::randn({batch, length, 4 * hidden}).set_requires_grad(true);
    cotangent = at::randn({batch, length, hidden});
  }

  double elements() const { return static_cast<double>(batch * length * hidden); }

  void scan(bool reference, bool backward) const {
    const at::AutoGradMode mode(backward);
    const Tensor y = std::get<0>(lstm_scan(gates, weight_hh, h0, c0, {}, reference));
    if (backward) torch::autograd::grad({y}, {gates, weight_hh}, {cotangent});
  }
  void layer(bool backward) const {
    const at::AutoGradMode mode(backward);
    const Tensor y = std::get<0>(lstm_scan(at::linear(x, weight_ih, bias), weight_hh, h0, c0));
    if (backward) torch::autograd::grad({y}, {weight_ih, weight_hh, bias}, {cotangent});
  }
  void libtorch(bool backward) const {
    const at::AutoGradMode mode(backward);
    const std::vector<Tensor> state{h0.unsqueeze(0), c0.unsqueeze(0)}, weights{weight_ih, weight_hh, bias, zero_bias};
    const Tensor y = std::get<0>(at::lstm(x, state, weights, true, 1, 0.0, backward, false, true));
    if (backward) torch::autograd::grad({y}, {weight_ih, weight_hh, bias}, {cotangent});
  }
};

void scan(benchmark::State& state, bool backward) {
  const Problem problem(state);
  state.counters["ns_per_element"] =
      side_by_side::ns_per_element(state, problem.elements(), [&] { problem.scan(false, backward); });
  state.counters["speedup_vs_reference"] =
      side_by_side::ratio([&] { problem.scan(false, backward); }, [&] { problem.scan(true, backward); }, 3);
}

void layer(benchmark::State& state, bool backward) {
  const Problem problem(state);
  state.counters["ns_per_element"] =
      side_by_side::ns_per_element(state, problem.elements(), [&] { problem.layer(backward); });
  state.counters["speedup_vs_libtorch"] =
      side_by_side::ratio([&] { problem.layer(backward); }, [&] { problem.libtorch(backward); }, 9);
}

void shapes(benchmark::internal::Benchmark* b) {
  b->Args({32, 256, 128})->Args({1, 1024, 256})->Unit(benchmark::kMillisecond)->UseRealTime();
}
BENCHMARK_CAPTURE(scan, lstm_forward, false)->Apply(shapes);
BENCHMARK_CAPTURE(scan, lstm_with_backward, true)->Apply(shapes);
BENCHMARK_CAPTURE(layer, lstm_forward, false)->Apply(shapes)->Args({1, 1, 256});
BENCHMARK_CAPTURE(layer, lstm_with_backward, true)->Apply(shapes);

}  // namespace
}  // namespace lstm_scan_benchmark
}  // namespace hippodrome
