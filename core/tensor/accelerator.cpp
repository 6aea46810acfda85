#include "core/tensor/accelerator.h"

#include <sys/sysinfo.h>

#include "core/tensor/cuda_library.h"
#include "core/tensor/memory_meter.h"

namespace hippodrome {
namespace {

class Cpu final : public Accelerator {
 public:
  c10::Device device() const override { return c10::DeviceType::CPU; }
  std::string name() const override { return ""; }
  int64_t memory_bytes() const override {
    struct sysinfo info {};
    sysinfo(&info);
    return static_cast<int64_t>(info.totalram) * info.mem_unit;
  }
  void synchronise() override {}
  int64_t current_bytes() const override { return memory_meter::current_bytes(); }
  int64_t peak_bytes() const override { return memory_meter::peak_bytes(); }
  void reset_peak() override { memory_meter::reset_peak(); }
  void set_limit(int64_t bytes) override { memory_meter::set_limit(bytes); }
  bool records() const override { return false; }
  std::unique_ptr<RecordedWork> record(const std::function<void()>&) override { return nullptr; }
};

}  // namespace

Accelerator& cpu_accelerator() {
  static Cpu cpu;
  return cpu;
}

absl::StatusOr<c10::Device> parse_device(const std::string& name) {
  if (name == "cpu") return c10::Device(c10::DeviceType::CPU);
  if (name == "cuda") return c10::Device(c10::DeviceType::CUDA, 0);
  const bool digits = name.rfind("cuda:", 0) == 0 && name.size() > 5 && name.size() <= 7 &&
                      name.find_first_not_of("0123456789", 5) == std::string::npos;
  if (digits) return c10::Device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(std::stoi(name.substr(5))));
  return absl::InvalidArgumentError("\"" + name + "\" is no device: use cpu, cuda, or cuda:1 for the second GPU");
}

absl::StatusOr<Accelerator*> find_accelerator(c10::Device device) {
  if (device.is_cpu()) return &cpu_accelerator();
  std::string why_not;
  Accelerator* const gpu = cuda_accelerator(device.index(), why_not);
  if (!gpu) return absl::FailedPreconditionError("--device " + device.str() + ": " + why_not);
  return gpu;
}

}  // namespace hippodrome
