// A decoding step of published models on a GPU, with a recorded graph and without. Wall-clock time: what a graph saves
// is the host's. Registered only where a GPU is. Counters: tokens_per_second and plain_tokens_per_second of all rows,
// times_plain, and share_of_bound against reading the weights once per step.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/ones.h>
#include <benchmark/benchmark.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "architectures/registry.h"
#include "benchmarks/gpu/device_peaks.h"
#include "benchmarks/side_by_side.h"
#include "core/inference/recorded_step.h"
#include "core/io/toml.h"
#include "core/model/language_model.h"
#include "core/tensor/accelerator.h"

namespace hippodrome::gpu_benchmark {
namespace decode_benchmark {

constexpr int64_t kTokens = 32;  // of a sample
constexpr int kRounds = 15;

Accelerator& gpu() { return **find_accelerator(c10::Device(c10::DeviceType::CUDA, 0)); }

absl::StatusOr<std::unique_ptr<LanguageModel>> make_preset(const std::string& name, const Registry& registry) {
  ASSIGN_OR_RETURN(const PresetEntry* preset, registry.preset(name));
  ASSIGN_OR_RETURN(const ConfigValue table, parse_toml(preset->toml, "preset " + name));
  ASSIGN_OR_RETURN(const ModelConfig config, read_config<ModelConfig>(table, name));
  return LanguageModel::make(config, config.vocabulary > 0 ? config.vocabulary : 50280, name, registry);
}

void run(benchmark::State& state, const std::string& preset, int64_t rows) {
  static const Registry registry = [] {
    Registry all;
    register_all(all);
    return all;
  }();
  const auto made = make_preset(preset, registry);
  if (!made.ok()) return state.SkipWithError(std::string(made.status().message()).c_str());
  LanguageModel& model = **made;
  model.parameters().materialise(/*seed=*/1, at::TensorOptions(at::kFloat).device(gpu().device()));
  model.set_compute_dtype(at::kBFloat16);
  const at::NoGradGuard no_grad;

  ModelState plain_state = model.initial_state(rows, 1), recorded_state = model.initial_state(rows, 1);
  Tensor token = at::ones({rows, 1}, at::TensorOptions(at::kLong).device(gpu().device()));
  int64_t position = 1;
  const auto recorded = RecordedStep::make(model, recorded_state, rows, gpu());
  if (!recorded) return state.SkipWithError("its step cannot be recorded");
  const auto with_graph = [&] {
    for (int64_t i = 0; i < kTokens; ++i) token = recorded->run(token, position++).argmax(-1, /*keepdim=*/true);
    gpu().synchronise();
  };
  const auto plain = [&] {
    for (int64_t i = 0; i < kTokens; ++i) {
      const Context context = Context::plain(rows, 1, position++, token.device());
      token = model.logits(model.hidden(token, context, &plain_state)).argmax(-1);
    }
    gpu().synchronise();
  };
  for (int i = 0; i < 3; ++i) with_graph(), plain();
  std::vector<double> recorded_times, plain_times;
  for (auto _ : state) {
    recorded_times.push_back(side_by_side::seconds(with_graph));
    state.SetIterationTime(recorded_times.back());
    plain_times.push_back(side_by_side::seconds(plain));
  }
  const double seconds = side_by_side::median(recorded_times), tokens = static_cast<double>(rows * kTokens);
  state.counters["tokens_per_second"] = tokens / seconds;
  state.counters["plain_tokens_per_second"] = tokens / side_by_side::median(plain_times);
  state.counters["times_plain"] = side_by_side::median(plain_times) / seconds;
  state.counters["target_plain"] = 2.0;
  // Weights in bfloat16; the states of few rows are next to nothing.
  const double bytes = 2.0 * static_cast<double>(model.parameters().count());
  state.counters["bytes_per_second"] = bytes * kTokens / seconds;
  if (const auto peaks = device_peaks(gpu().name())) {
    state.counters["share_of_bound"] = bytes / peaks->bytes * kTokens / seconds;
  }
}

const bool registered = [] {
  if (!std::filesystem::exists("/dev/nvidiactl")) return false;
  for (const char* preset : {"mamba-130m", "mamba2-130m", "rwkv-4-169m"}) {
    for (const int64_t rows : {1, 64}) {
      const std::string name = std::string("gpu/decode/") + preset + "/B:" + std::to_string(rows);
      const auto body = [preset, rows](benchmark::State& state) {
        try {
          run(state, preset, rows);
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
  return true;
}();

}  // namespace decode_benchmark
}  // namespace hippodrome::gpu_benchmark
