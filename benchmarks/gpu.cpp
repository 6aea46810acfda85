// The CUDA kernels, where there is a GPU: nothing is registered elsewhere. bfloat16, one sequence or a few, lengths
// from 4 Ki. Counters: bytes_per_second is the least that must move (inputs and outputs once), share_of_copy that
// against a plain copy of 1 GiB on this GPU in this run, and, where LibTorch can do the same, speedup_vs_libtorch.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/tanh.h>
#include <benchmark/benchmark.h>
#include <torch/csrc/autograd/autograd.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "architectures/recurrent/additive_attention/additive_attention.h"
#include "architectures/rwkv/wkv4/wkv4.h"
#include "architectures/ssm/causal_conv1d/causal_conv1d.h"
#include "architectures/ssm/gated_rms_norm/gated_rms_norm.h"
#include "architectures/ssm/selective_scan/selective_scan.h"
#include "architectures/ssm/ssd/ssd.h"
#include "benchmarks/side_by_side.h"
#include "core/tensor/accelerator.h"

namespace hippodrome {
namespace gpu_benchmark {
namespace {

using at::Tensor;

struct Shape {
  int64_t batch, length;
};

// One call's work, made for a shape: the tensors that gradients are asked for, and what gives the output of them.
struct Problem {
  std::vector<Tensor> inputs;
  std::function<Tensor()> forward;
  std::function<Tensor()> libtorch;  // the same by LibTorch's operators; may be empty
  double bytes_forward = 0.0, bytes_backward = 0.0;
};

at::TensorOptions on_gpu(at::ScalarType dtype) { return at::TensorOptions(dtype).device(at::kCUDA); }
Tensor normal(std::vector<int64_t> sizes) { return at::randn(sizes, on_gpu(at::kBFloat16)); }

Problem scan(const Shape& s) {  // Mamba-1's at d_model 1,280
  const int64_t channels = 2560, states = 16;
  const Tensor u = normal({s.batch, s.length, channels}).transpose(1, 2);
  const Tensor delta = at::rand({s.batch, s.length, channels}, on_gpu(at::kBFloat16)).mul(0.1).transpose(1, 2);
  const Tensor z = normal({s.batch, s.length, channels}).transpose(1, 2);
  const Tensor A = at::rand({channels, states}, on_gpu(at::kFloat)).add(0.5).neg();
  const Tensor B = normal({s.batch, s.length, states}).transpose(1, 2),
               C = normal({s.batch, s.length, states}).transpose(1, 2);
  const double elements = static_cast<double>(s.batch * s.length * channels);
  SelectiveScanArguments arguments;
  arguments.u = u, arguments.delta = delta, arguments.A = A, arguments.B = B, arguments.C = C, arguments.z = z;
  return {{u, delta, A, B, C, z},
          [arguments] { return std::get<0>(selective_scan(arguments)); },
          {},
          8.0 * elements,
          18.0 * elements};
}

Problem wkv(const Shape& s) {
  const int64_t channels = 2048;
  const Tensor w = at::rand({channels}, on_gpu(at::kFloat)).neg(), u = at::rand({channels}, on_gpu(at::kFloat));
  const Tensor k = normal({s.batch, s.length, channels}), v = normal({s.batch, s.length, channels});
  const double elements = static_cast<double>(s.batch * s.length * channels);
  return {{w, u, k, v}, [=] { return wkv4(w, u, k, v).y; }, {}, 6.0 * elements, 14.0 * elements};
}

Problem convolution(const Shape& s) {
  const int64_t channels = 2560, width = 4;
  const Tensor x = normal({s.batch, s.length, channels}).transpose(1, 2);
  const Tensor weight = normal({channels, width}), bias = normal({channels});
  const double elements = static_cast<double>(s.batch * s.length * channels);
  return {{x, weight, bias},
          [=] { return causal_conv1d(x, weight, bias, "silu").y; },
          [=, length = s.length] {
            return at::silu(at::conv1d(x, weight.unsqueeze(1), bias, 1, width - 1, 1, channels).narrow(2, 0, length));
          },
          4.0 * elements,
          8.0 * elements};
}

Problem state_space_duality(const Shape& s) {  // Mamba-2's at d_model 2,048
  const int64_t heads = 64, size = 64, states = 128;
  const Tensor x = normal({s.batch, s.length, heads, size});
  const Tensor dt = at::rand({s.batch, s.length, heads}, on_gpu(at::kBFloat16)).mul(0.1);
  const Tensor A = at::rand({heads}, on_gpu(at::kFloat)).add(0.5).neg();
  const Tensor B = normal({s.batch, s.length, 1, states}), C = normal({s.batch, s.length, 1, states});
  const double elements = static_cast<double>(s.batch * s.length * heads);
  SsdArguments arguments;
  arguments.x = x, arguments.dt = dt, arguments.A = A, arguments.B = B, arguments.C = C;
  return {
      {x, dt, A, B, C}, [arguments] { return std::get<0>(ssd(arguments)); }, {}, 268.0 * elements, 804.0 * elements};
}

Problem gated_norm(const Shape& s) {  // Mamba-2's at d_model 2,048; z is a slice of its projection
  const int64_t width = 4096;
  const Tensor x = normal({s.batch, s.length, width}), weight = normal({width});
  const Tensor z = normal({s.batch, s.length, 2 * width + 320}).slice(2, 0, width);
  const double elements = static_cast<double>(s.batch * s.length * width);
  return {{x, z, weight},
          [=] { return gated_rms_norm(x, z, weight); },
          [=] { return at::rms_norm(x.mul(at::silu(z)), {width}, weight, 1e-5); },
          6.0 * elements,
          10.0 * elements};
}

Problem additive(const Shape& s) {  // as many keys as queries; its limit is one tanh per query, key and feature
  const int64_t size = 256;
  const Tensor q = normal({s.batch, s.length, size}), k = normal({s.batch, s.length, size}),
               v = normal({size}).mul(0.1);
  const Tensor values = normal({s.batch, s.length, size});
  const double elements = static_cast<double>(s.batch * s.length * size);
  Problem problem{{q, k, v, values},
                  [=] { return std::get<0>(additive_attention(q, k, v, values)); },
                  {},
                  8.0 * elements,
                  18.0 * elements};
  if (s.batch * s.length * s.length * size * 2 < int64_t{8} << 30) {
    problem.libtorch = [=] { return at::tanh(q.unsqueeze(2).add(k.unsqueeze(1))).matmul(v).softmax(-1).bmm(values); };
  }
  return problem;
}

Accelerator& gpu() { return **find_accelerator(c10::Device(c10::DeviceType::CUDA, 0)); }

double copy_bytes_per_second() {
  static const double rate = [] {
    const Tensor from = at::empty({int64_t{1} << 28}, on_gpu(at::kFloat)), to = at::empty_like(from);
    std::vector<double> times;
    for (int i = 0; i < 12; ++i) {
      times.push_back(side_by_side::seconds([&] {
        const_cast<Tensor&>(to).copy_(from);
        gpu().synchronise();
      }));
    }
    return 2.0 * static_cast<double>(from.nbytes()) / side_by_side::median(times);
  }();
  return rate;
}

void run(benchmark::State& state, Problem (*make)(const Shape&), bool backward) {
  Problem problem = make({state.range(0), state.range(1)});
  const at::AutoGradMode mode(backward);
  for (Tensor& input : problem.inputs) input.set_requires_grad(backward);
  const Tensor cotangent = at::ones_like(problem.forward()).detach();
  const auto work_of = [&](const std::function<Tensor()>& forward) {
    return [&, forward] {
      const Tensor y = forward();
      if (backward) torch::autograd::grad({y}, problem.inputs, {cotangent});
      gpu().synchronise();
    };
  };
  const auto ours = work_of(problem.forward);
  for (int i = 0; i < 3; ++i) ours();
  std::vector<double> times;
  for (auto _ : state) {
    times.push_back(side_by_side::seconds(ours));
    state.SetIterationTime(times.back());
  }
  const double bytes = problem.bytes_forward + (backward ? problem.bytes_backward : 0.0);
  state.counters["bytes_per_second"] = bytes / side_by_side::median(times);
  state.counters["share_of_copy"] = bytes / side_by_side::median(times) / copy_bytes_per_second();
  gpu().reset_peak();
  const int64_t before = gpu().current_bytes();
  ours();
  state.counters["peak_MB"] = static_cast<double>(gpu().peak_bytes() - before) / 1e6;
  if (problem.libtorch) state.counters["speedup_vs_libtorch"] = side_by_side::ratio(ours, work_of(problem.libtorch), 9);
}

// Registered at start only where a GPU is.
const bool registered = [] {
  if (!std::filesystem::exists("/dev/nvidiactl")) return false;
  struct Kernel {
    const char* name;
    Problem (*make)(const Shape&);
    std::vector<Shape> shapes;
  };
  const std::vector<Shape> long_ones = {{1, 4096}, {8, 4096}, {1, 16384}, {1, 65536}};
  const std::vector<Kernel> kernels = {
      {"selective_scan", scan, long_ones},       {"wkv4", wkv, long_ones},
      {"causal_conv1d", convolution, long_ones}, {"ssd", state_space_duality, long_ones},
      {"gated_rms_norm", gated_norm, long_ones}, {"additive_attention", additive, {{1, 1024}, {1, 4096}}}};
  for (const Kernel& kernel : kernels) {
    for (const bool backward : {false, true}) {
      const std::string name = std::string("gpu_") + kernel.name + (backward ? "_with_backward" : "_forward");
      auto* benchmark = benchmark::RegisterBenchmark(name.c_str(), run, kernel.make, backward);
      benchmark->ArgNames({"B", "L"})->Unit(benchmark::kMicrosecond)->UseManualTime()->MinTime(0.2);
      for (const Shape& shape : kernel.shapes) benchmark->Args({shape.batch, shape.length});
    }
  }
  return true;
}();

}  // namespace
}  // namespace gpu_benchmark
}  // namespace hippodrome
