// dplr_scan against its plain loops, and S4's Cauchy sums against theirs. Arguments: B, D, L, N (conjugate pairs). An
// element is one (row, token, channel); of the sums one (channel, node).
#include "architectures/ssm/dplr_scan/dplr_scan.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>
#include <benchmark/benchmark.h>
#include <torch/csrc/autograd/autograd.h>

#include <tuple>
#include <vector>

#include "architectures/ssm/cauchy/cauchy.h"
#include "benchmarks/side_by_side.h"

namespace hippodrome {
namespace dplr_scan_benchmark {
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
    const Tensor radius = at::rand({channels, states}).mul(0.1).add(0.85), angle = at::rand({channels, states});
    parameters = {at::stack({radius.mul(angle.cos()), radius.mul(angle.sin())}, -1), at::randn({channels, states, 2}),
                  at::randn({channels, states, 2}), at::randn({channels, 1, states, 2}).mul(0.01),
                  at::randn({channels, 1, states, 2}).mul(0.1)};
    for (auto& t : parameters) t.set_requires_grad(true);
  }

  void scan(bool reference, bool backward) const {
    const at::AutoGradMode mode(backward);
    const auto& p = parameters;
    const Tensor y = std::get<0>(dplr_scan(u, p[0], p[1], p[2], p[3], p[4], state, {}, reference));
    if (backward) torch::autograd::grad({y}, {u, p[0], p[1], p[2], p[3], p[4]}, {cotangent});
  }
};

void scan(benchmark::State& state, bool backward) {
  const Problem problem(state);
  state.counters["ns_per_element"] = side_by_side::ns_per_element(state, static_cast<double>(problem.u.numel()),
                                                                  [&] { problem.scan(false, backward); });
  state.counters["speedup_vs_reference"] =
      side_by_side::ratio([&] { problem.scan(false, backward); }, [&] { problem.scan(true, backward); }, 3);
}

void sums(benchmark::State& state, bool backward) {
  const int64_t channels = state.range(0), length = state.range(1), states = state.range(2);
  const Tensor v = at::randn({channels, 4, states, 2}, at::kDouble).set_requires_grad(true);
  const Tensor lambda = at::stack({at::rand({channels, states}, at::kDouble).add(0.5).mul(-0.01),
                                   at::rand({channels, states}, at::kDouble)},
                                  -1)
                            .set_requires_grad(true);
  const auto run = [&](bool reference) {
    const at::AutoGradMode mode(backward);
    const Tensor s = cauchy(v, lambda, length, reference);
    if (backward) torch::autograd::grad({s}, {v, lambda}, {s.detach()});
  };
  state.counters["ns_per_element"] =
      side_by_side::ns_per_element(state, static_cast<double>(channels * (length / 2 + 1)), [&] { run(false); });
  state.counters["speedup_vs_reference"] = side_by_side::ratio([&] { run(false); }, [&] { run(true); }, 3);
}

void shapes(benchmark::internal::Benchmark* b) {
  b->Args({1, 256, 1024, 32})->Args({8, 256, 256, 4})->Unit(benchmark::kMillisecond)->UseRealTime();
}
BENCHMARK_CAPTURE(scan, dplr_forward, false)->Apply(shapes)->Args({1, 512, 1, 32});
BENCHMARK_CAPTURE(scan, dplr_with_backward, true)->Apply(shapes);
BENCHMARK_CAPTURE(sums, cauchy_forward, false)->Args({256, 1024, 32})->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK_CAPTURE(sums, cauchy_with_backward, true)
    ->Args({256, 1024, 32})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace dplr_scan_benchmark
}  // namespace hippodrome
