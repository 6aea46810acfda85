// attentive_scan against the same recurrence written step by step in LibTorch's functions, with autograd through time,
// and against its plain loops. Arguments: B, L, S, n (A = n, M = 2n, as in RNNsearch). An element is one (row, token,
// unit).
#include "architectures/recurrent/attentive_scan/attentive_scan.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tanh.h>
#include <benchmark/benchmark.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <string>
#include <vector>

#include "benchmarks/side_by_side.h"

namespace hippodrome {
namespace attentive_scan_benchmark {
namespace {

using at::Tensor;

struct Problem {
  int64_t batch, length, keys, hidden;
  AttentiveScanInputs in;
  Tensor grad_s, grad_contexts;

  Problem(const benchmark::State& s, const std::string& cell)
      : batch(s.range(0)), length(s.range(1)), keys(s.range(2)), hidden(s.range(3)) {
    const int64_t gates = (cell == "lstm" ? 4 : 3) * hidden, width = 2 * hidden;
    const double scale = 1.0 / std::sqrt(static_cast<double>(hidden));
    const auto leaf = [](const Tensor& t) { return t.set_requires_grad(true); };
    in = {cell,
          leaf(at::randn({batch, length, gates})),
          leaf(at::randn({gates, hidden}).mul(scale)),
          leaf(at::randn({gates, width}).mul(scale)),
          leaf(at::randn({hidden, hidden}).mul(scale)),
          leaf(at::randn({batch, keys, hidden})),
          leaf(at::randn({hidden}).mul(scale)),
          leaf(at::randn({batch, keys, width})),
          leaf(at::randn({batch, hidden}))};
    if (cell == "lstm") in.c0 = leaf(at::randn({batch, hidden}));
    grad_s = at::randn({batch, length, hidden});
    grad_contexts = at::randn({batch, length, width});
  }

  double elements() const { return static_cast<double>(batch * length * hidden); }

  void differentiate(const Tensor& s, const Tensor& contexts) const {
    std::vector<Tensor> leaves{in.gates, in.weight_hh, in.weight_c, in.weight_q, in.keys, in.v, in.values, *in.s0};
    if (in.c0) leaves.push_back(*in.c0);
    torch::autograd::grad({s, contexts}, leaves, {grad_s, grad_contexts});
  }
  void ours(bool backward, bool reference = false) const {
    const at::AutoGradMode mode(backward);
    const auto outputs = attentive_scan(in, reference);
    if (backward) differentiate(std::get<0>(outputs), std::get<1>(outputs));
  }
  void libtorch(bool backward) const {
    const at::AutoGradMode mode(backward);
    const bool lstm = in.cell == "lstm";
    const int64_t n = hidden;
    Tensor s = *in.s0, cell = lstm ? *in.c0 : Tensor();
    const std::vector<Tensor> gates = in.gates.unbind(1);
    const Tensor recurrent = lstm ? in.weight_hh : in.weight_hh.slice(0, 0, 2 * n);
    const Tensor of_candidate = in.weight_hh.slice(0, 2 * n, 3 * n);
    std::vector<Tensor> states, contexts;
    for (const Tensor& gate : gates) {
      const Tensor q = at::linear(s, in.weight_q).unsqueeze(1);
      const Tensor weights = at::tanh(q.add(in.keys)).matmul(in.v).softmax(-1);
      const Tensor context = weights.unsqueeze(1).bmm(in.values).squeeze(1);
      const Tensor x = at::linear(context, in.weight_c).add(gate), u = at::linear(s, recurrent);
      if (lstm) {
        const std::vector<Tensor> parts = x.add(u).chunk(4, 1);
        cell = parts[1].sigmoid().mul(cell).add(parts[0].sigmoid().mul(parts[2].tanh()));
        s = parts[3].sigmoid().mul(cell.tanh());
      } else {
        const std::vector<Tensor> rz = x.slice(1, 0, 2 * n).add(u).sigmoid().chunk(2, 1);
        const Tensor candidate = x.slice(1, 2 * n).add(at::linear(rz[0].mul(s), of_candidate)).tanh();
        s = s.add(rz[1].mul(candidate.sub(s)));
      }
      states.push_back(s);
      contexts.push_back(context);
    }
    const Tensor all_states = at::stack(states, 1), all_contexts = at::stack(contexts, 1);
    if (backward) differentiate(all_states, all_contexts);
  }
};

void scan(benchmark::State& state, const std::string& cell, bool backward) {
  const Problem problem(state, cell);
  state.counters["ns_per_element"] =
      side_by_side::ns_per_element(state, problem.elements(), [&] { problem.ours(backward); });
  state.counters["speedup_vs_libtorch"] =
      side_by_side::ratio([&] { problem.ours(backward); }, [&] { problem.libtorch(backward); }, 7);
  state.counters["speedup_vs_reference"] =
      side_by_side::ratio([&] { problem.ours(backward); }, [&] { problem.ours(backward, true); }, 1);
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"B", "L", "S", "n"})->Unit(benchmark::kMillisecond)->UseRealTime();
  b->Args({32, 40, 40, 256});
}
// One token at a time is decoding, of one sentence and of 12 hypotheses.
void forward_shapes(benchmark::internal::Benchmark* b) {
  shapes(b);
  b->Args({1, 1, 40, 256})->Args({12, 1, 40, 256});
}
BENCHMARK_CAPTURE(scan, attentive_gru_forward, "gru", false)->Apply(forward_shapes);
BENCHMARK_CAPTURE(scan, attentive_gru_with_backward, "gru", true)->Apply(shapes);
BENCHMARK_CAPTURE(scan, attentive_lstm_forward, "lstm", false)->Apply(forward_shapes);
BENCHMARK_CAPTURE(scan, attentive_lstm_with_backward, "lstm", true)->Apply(shapes);

}  // namespace
}  // namespace attentive_scan_benchmark
}  // namespace hippodrome
