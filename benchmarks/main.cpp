// Entry of hippodrome_bench: raises glibc's thresholds, then adds to every result what a figure is worthless without.
#include <malloc.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <string>

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <benchmark/benchmark.h>
#include <torch/version.h>

#include <nlohmann/json.hpp>

#include "core/measure/provenance.h"
#include "core/tensor/accelerator.h"
#include "core/tensor/cuda_library.h"

namespace {

// What `command` prints, without the last newline; empty where it fails.
std::string output_of(const std::string& command) {
  std::string output;
  FILE* pipe = popen((command + " 2>/dev/null").c_str(), "r");
  if (pipe == nullptr) return output;
  std::array<char, 256> buffer;
  while (std::fgets(buffer.data(), buffer.size(), pipe) != nullptr) output += buffer.data();
  pclose(pipe);
  if (!output.empty() && output.back() == '\n') output.pop_back();
  return output;
}

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

}  // namespace

int main(int argc, char** argv) {
  hippodrome::load_cuda_library();  // before every other call into LibTorch
  // glibc hands every freed block above 32 MiB back to the kernel and pays 2.4 µs a page to get it again (1.6 GB/s,
  // measured on a Zen 5 virtual machine). Keep freed memory: blocks up to 1 GiB from the heap, and never trim it.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, -1);

  const std::string git = "git -C '" HIPPODROME_SOURCE_FOLDER "' ";
  const std::string commit = output_of(git + "rev-parse HEAD");
  // Carried to another machine, it has no checkout beside it: then what the library was compiled from.
  const nlohmann::json compiled = hippodrome::provenance();
  const bool changed =
      commit.empty() ? compiled["dirty"].get<bool>() : !output_of(git + "status --porcelain -uno").empty();
  benchmark::AddCustomContext("commit", commit.empty() ? compiled["commit"].get<std::string>() : commit);
  benchmark::AddCustomContext("uncommitted_changes", changed ? "yes" : "no");
  if (const auto gpu = hippodrome::find_accelerator(c10::Device(c10::DeviceType::CUDA, 0)); gpu.ok()) {
    benchmark::AddCustomContext("gpu", (*gpu)->name());
  }
  benchmark::AddCustomContext("cpu", cpu_name());
  benchmark::AddCustomContext("cpu_capability", at::get_cpu_capability());
  benchmark::AddCustomContext("torch", TORCH_VERSION);
  benchmark::AddCustomContext("threads", std::to_string(at::get_num_threads()));

  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
