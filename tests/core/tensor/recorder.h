#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "core/tensor/accelerator.h"

namespace hippodrome::toys {

// A device that pretends to record: a replay calls the work again, on the same tensors. Counts both.
class Recorder : public Accelerator {
 public:
  explicit Recorder(c10::Device device = c10::DeviceType::CPU) : device_(device) {}

  c10::Device device() const override { return device_; }
  std::string name() const override { return "recorder"; }
  int64_t memory_bytes() const override { return 0; }
  void synchronise() override {}
  int64_t current_bytes() const override { return 0; }
  int64_t peak_bytes() const override { return 0; }
  void reset_peak() override {}
  void set_limit(int64_t) override {}
  bool records() const override { return true; }
  std::unique_ptr<RecordedWork> record(const std::function<void()>& work) override {
    ++recordings;
    return std::make_unique<Work>(work, replays);
  }

  int recordings = 0, replays = 0;

 private:
  struct Work final : RecordedWork {
    Work(std::function<void()> work, int& replays) : work(std::move(work)), replays(replays) {}
    void replay() override {
      ++replays;
      work();
    }
    std::function<void()> work;
    int& replays;
  };
  c10::Device device_;
};

}  // namespace hippodrome::toys
