// The CUDA kernels and their rivals on a GPU, in turns; nothing is registered where there is none. Names are
// gpu/KERNEL/DIRECTION; `backward` is the gradients alone, `both` a forward pass that keeps what they need, and them.
// Times are the GPU's, of cold caches, medians of what counters give the fifths of. Counters, beside what README.md in
// this folder says of them: RIVAL_us and times_RIVAL, its time and how many times as fast we are.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/ones_like.h>
#include <benchmark/benchmark.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "benchmarks/gpu/device_clock.h"
#include "benchmarks/gpu/device_peaks.h"
#include "benchmarks/gpu/problem.h"
#include "benchmarks/gpu/rival_library.h"
#include "benchmarks/side_by_side.h"
#include "core/tensor/accelerator.h"

namespace hippodrome::gpu_benchmark {
namespace kernels_benchmark {

using at::Tensor;

constexpr int kRounds = 15;
constexpr double kSlowSeconds = 0.1;  // of a rival's turn: it then has a turn in every fifth round only

enum class Direction { kForward, kBackward, kBoth };

Accelerator& gpu() { return **find_accelerator(c10::Device(c10::DeviceType::CUDA, 0)); }
Filler& filler() {
  static Filler filler(gpu().device());
  return filler;
}

double bytes_of(const std::vector<Tensor>& tensors) {
  double bytes = 0.0;
  for (const Tensor& t : tensors) bytes += static_cast<double>(t.nbytes());
  return bytes;
}

// What a direction enqueues. Backward keeps the graph of one forward pass, so that only it is repeated.
std::function<void()> work_of(Direction direction, const std::function<Tensor()>& forward,
                              const std::vector<Tensor>& inputs) {
  if (direction == Direction::kForward) {
    return [=] {
      const at::NoGradGuard no_grad;
      forward();
    };
  }
  Tensor y = forward(), cotangent = at::ones_like(y).detach();
  if (direction == Direction::kBackward) {
    return [=] { torch::autograd::grad({y}, inputs, {cotangent}, /*retain_graph=*/true); };
  }
  y = Tensor();
  return [=] { torch::autograd::grad({forward()}, inputs, {cotangent}); };
}

// Null where the rival has no such direction.
std::function<void()> work_of(Direction direction, const Rival& rival, const std::vector<Tensor>& problem_inputs) {
  if (direction != Direction::kForward && !rival.differentiable) return nullptr;
  const std::vector<Tensor>& inputs = rival.inputs.empty() ? problem_inputs : rival.inputs;
  for (const Tensor& input : inputs) input.set_requires_grad(direction != Direction::kForward);
  if (!rival.backward || direction == Direction::kForward) return work_of(direction, rival.forward, inputs);
  if (direction == Direction::kBackward) return rival.backward;
  return [rival] {
    rival.forward();
    rival.backward();
  };
}

struct Contender {
  std::string name;
  double target = 0.0;
  std::unique_ptr<Timed> timed;
};

void add_bound(benchmark::State& state, Direction direction, const Problem& problem, double seconds) {
  const double inputs = bytes_of(problem.inputs);
  const at::NoGradGuard no_grad;
  const double result = bytes_of({problem.forward()});
  Work work;
  double bytes = 0.0;
  const auto add = [&](double more_bytes, const Work& more) {
    bytes += more_bytes;
    work.flops += more.flops, work.products += more.products, work.specials += more.specials;
  };
  if (direction != Direction::kBackward) add(inputs + result, problem.forward_work);
  if (direction != Direction::kForward) add(2.0 * inputs + result, problem.backward_work);  // with their gradients
  auto& counters = state.counters;
  counters["bytes_per_second"] = bytes / seconds;
  if (work.flops + work.products > 0.0) counters["flop_per_second"] = (work.flops + work.products) / seconds;
  if (work.specials > 0.0) counters["specials_per_second"] = work.specials / seconds;
  counters["copy_bytes_per_second"] = filler().bytes_per_second();
  const auto peaks = device_peaks(gpu().name());
  const Bound bound = least_time(bytes, work, peaks.value_or(DevicePeaks{.bytes = filler().bytes_per_second()}));
  counters["bound_us"] = bound.seconds * 1e6;
  counters["share_of_bound"] = bound.seconds / seconds;
  state.SetLabel(peaks ? std::string("bound by ") + bound.by : "unknown GPU: the bound is that of a measured copy");
}

void run(benchmark::State& state, const Kernel& kernel, Shape shape, Direction direction) {
  const Problem problem = kernel.make(shape, at::TensorOptions(kernel.dtype).device(gpu().device()));
  for (const Tensor& input : problem.inputs) input.set_requires_grad(direction != Direction::kForward);
  const auto ours = work_of(direction, problem.forward, problem.inputs);
  Timed timed(ours, filler(), gpu());
  gpu().reset_peak();
  const int64_t before = gpu().current_bytes();
  ours();
  gpu().synchronise();
  const int64_t peak = gpu().peak_bytes() - before;
  std::vector<Contender> rivals;
  for (const Rival& rival : problem.rivals) {
    if (const auto work = work_of(direction, rival, problem.inputs)) {
      const double target = direction == Direction::kForward    ? rival.target_forward
                            : direction == Direction::kBackward ? rival.target_backward
                                                                : 0.0;
      rivals.push_back({rival.name, target, std::make_unique<Timed>(work, filler(), gpu())});
    }
  }
  int round = 0;
  for (auto _ : state) {
    state.SetIterationTime(timed.sample());
    for (Contender& rival : rivals) {
      const auto& samples = rival.timed->samples();
      if (samples.empty() || samples.front() < kSlowSeconds || round % 5 == 0) rival.timed->sample();
    }
    ++round;
  }
  const double seconds = side_by_side::median(timed.samples());
  add_bound(state, direction, problem, seconds);
  std::vector<double> sorted = timed.samples();
  std::sort(sorted.begin(), sorted.end());
  state.counters["median_us"] = seconds * 1e6;
  state.counters["q20_us"] = sorted[sorted.size() / 5] * 1e6;
  state.counters["q80_us"] = sorted[sorted.size() * 4 / 5] * 1e6;
  state.counters["peak_MB"] = static_cast<double>(peak) / 1e6;
  for (const Contender& rival : rivals) {
    const double theirs = side_by_side::median(rival.timed->samples());
    state.counters[rival.name + "_us"] = theirs * 1e6;
    state.counters["times_" + rival.name] = theirs / seconds;
    if (rival.target > 0.0) state.counters["target_" + rival.name] = rival.target;
  }
}

// Registered at start only where a GPU is.
const bool registered = [] {
  if (!std::filesystem::exists("/dev/nvidiactl")) return false;
  const std::pair<Direction, const char*> directions[] = {
      {Direction::kForward, "forward"}, {Direction::kBackward, "backward"}, {Direction::kBoth, "both"}};
  for (const Kernel& kernel : kernels()) {
    for (const auto& [direction, word] : directions) {
      for (const Shape& shape : kernel.shapes) {
        const std::string name = "gpu/" + kernel.name + "/" + word + "/B:" + std::to_string(shape.batch) +
                                 "/L:" + std::to_string(shape.length) + "/width:" + std::to_string(shape.width);
        const auto body = [kernel, shape, way = direction](benchmark::State& state) {
          static const bool loaded = load_rivals();
          (void)loaded;
          // Out of memory is a row that says so, and no end of the others.
          try {
            run(state, kernel, shape, way);
          } catch (const c10::Error& error) {
            state.SkipWithError(error.what_without_backtrace());
          }
        };
        benchmark::RegisterBenchmark(name.c_str(), body)
            ->Unit(benchmark::kMicrosecond)
            ->UseManualTime()
            ->Iterations(kRounds);
      }
    }
  }
  return true;
}();

}  // namespace kernels_benchmark
}  // namespace hippodrome::gpu_benchmark
