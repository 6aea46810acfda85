// diagonal_scan against its plain loops. Arguments: B, D, L, N (conjugate pairs). An element is one (row, token,
// channel).
#include "architectures/ssm/diagonal_scan/diagonal_scan.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <benchmark/benchmark.h>
#include <torch/csrc/autograd/autograd.h>

#include <tuple>
#include <vector>

#include "benchmarks/side_by_side.h"

namespace hippodrome {
namespace diagonal_scan_benchmark {
namespace {

using at::Tensor;

struct Problem {
  Tensor u, cotangent, state;
  std::vector<Tensor> parameters;

  explicit Problem(const benchmark::State& s) {
    const int64_t batch = s.range(0), channels = s.range(1), length = s.range(2), states = s.range(3);
    u = at::randn({batch, length, channels}).transpose(1, 2).set_requires_grad(true);
    cotangent = at::randn({batch, length, channels}).transpose(1, 2);
    state = at::randn({batch, channels, states, 2});
    const Tensor radius = at::rand({channels, states}).mul(0.1).add(0.899), angle = at::rand({channels, states});
    parameters = {radius.mul(angle.cos()), radius.mul(angle.sin())};
    for (int i = 0; i < 4; ++i) parameters.push_back(at::randn({channels, states}));
    for (auto& t : parameters) t.set_requires_grad(true);
  }

  void scan(bool reference, bool backward) const {
    const at::AutoGradMode mode(backward);
    const auto& p = parameters;
    const Tensor y = std::get<0>(diagonal_scan(u, p[0], p[1], p[2], p[3], p[4], p[5], state, {}, reference));
    if (backward) torch::autograd::grad({y}, {u, p[0], p[1], p[2], p[3], p[4], p[5]}, {cotangent});
  }
};

void scan(benchmark::State& state, bool backward) {
  const Problem problem(state);
  state.counters["ns_per_element"] = side_by_side::ns_per_element(state, static_cast<double>(problem.u.numel()),
                                                                  [&] { problem.scan(false, backward); });
  state.counters["speedup_vs_reference"] =
      side_by_side::ratio([&] { problem.scan(false, backward); }, [&] { problem.scan(true, backward); }, 3);
}

void shapes(benchmark::internal::Benchmark* b) {
  b->Args({1, 256, 1024, 32})->Args({8, 256, 256, 4})->Unit(benchmark::kMillisecond)->UseRealTime();
}
BENCHMARK_CAPTURE(scan, diagonal_forward, false)->Apply(shapes)->Args({1, 512, 1, 32});
BENCHMARK_CAPTURE(scan, diagonal_with_backward, true)->Apply(shapes);

}  // namespace
}  // namespace diagonal_scan_benchmark
}  // namespace hippodrome
