#include "core/measure/provenance.h"

#include <ATen/Parallel.h>
#include <sys/sysinfo.h>
#include <torch/headeronly/version.h>

#include <chrono>
#include <ctime>
#include <filesystem>
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

std::string gpu_name() {
  std::error_code error;
  for (const auto& gpu : std::filesystem::directory_iterator("/proc/driver/nvidia/gpus", error)) {
    std::ifstream file(gpu.path() / "information");
    for (std::string line; std::getline(file, line);) {
      if (line.rfind("Model:", 0) == 0) return line.substr(line.find_first_not_of(" \t", 6));
    }
  }
  return "";
}

int64_t memory_bytes() {
  struct sysinfo info{};
  sysinfo(&info);
  return static_cast<int64_t>(info.totalram) * info.mem_unit;
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

nlohmann::json provenance() {
  return {{"commit", kSourceCommit},
          {"dirty", kSourceDirty},
          {"hardware",
           {{"cpu", cpu_name()},
            {"cores", std::thread::hardware_concurrency()},
            {"memory_bytes", memory_bytes()},
            {"gpu", gpu_name()}}},
          {"versions", {{"hippodrome", kProjectVersion}, {"torch", TORCH_VERSION}, {"compiler", "g++ " __VERSION__}}},
          {"threads", at::get_num_threads()},
          {"matmul", matrix_library_name(matrix_library())},
          {"started", utc_time()}};
}

}  // namespace hippodrome
