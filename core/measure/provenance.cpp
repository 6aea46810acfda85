#include "core/measure/provenance.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <torch/headeronly/version.h>

#include <chrono>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/tensor/matmul.h"
#include "hippodrome_commit.h"

namespace hippodrome {
namespace {

// The first "model name" of /proc/cpuinfo.
std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

}  // namespace

std::string utc_time() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm fields{};
  gmtime_r(&now, &fields);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &fields);
  return text;
}

nlohmann::json provenance(const Accelerator& accelerator) {
  const bool gpu = !accelerator.device().is_cpu();
  return {{"commit", kSourceCommit},
          {"dirty", kSourceDirty},
          {"hardware",
           {{"cpu", cpu_name()},
            {"cores", std::thread::hardware_concurrency()},
            {"memory_bytes", cpu_accelerator().memory_bytes()},
            {"gpu", accelerator.name()},
            {"gpu_memory_bytes", gpu ? accelerator.memory_bytes() : 0}}},
          {"versions", {{"hippodrome", kProjectVersion}, {"torch", TORCH_VERSION}, {"compiler", "g++ " __VERSION__}}},
          {"threads", at::get_num_threads()},
          {"matmul", matrix_library_name(matrix_library())},
          {"device", accelerator.device().str()},
          {"tf32", gpu && at::globalContext().allowTF32CuBLAS()},
          {"started", utc_time()}};
}

}  // namespace hippodrome
