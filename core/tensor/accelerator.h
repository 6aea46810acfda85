#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/base/status.h"

namespace hippodrome {

// Work that a device recorded once (a CUDA graph) and repeats in one launch, on the memory it was recorded with.
class RecordedWork {
 public:
  virtual ~RecordedWork() = default;
  virtual void replay() = 0;
};

// Where models compute, the CPU or a GPU: what the program needs of it beyond tensors. Memory is counted at LibTorch's
// allocator of the device on both, so that architectures are measured alike.
class Accelerator {
 public:
  virtual ~Accelerator() = default;

  virtual c10::Device device() const = 0;
  virtual std::string name() const = 0;      // of the GPU; empty for the CPU, whose name provenance has
  virtual int64_t memory_bytes() const = 0;  // that it has
  virtual void synchronise() = 0;            // returns when all work that was enqueued is done

  virtual int64_t current_bytes() const = 0;  // of tensors
  virtual int64_t peak_bytes() const = 0;     // since start or the last reset
  virtual void reset_peak() = 0;
  // An allocation that would pass this many bytes fails with c10::OutOfMemoryError; on a GPU those that LibTorch has
  // taken for tensors count, used or not. 0: no limit but the device's own.
  virtual void set_limit(int64_t bytes) = 0;

  // Whether the device can record at all.
  virtual bool records() const = 0;
  // Records what `work` enqueues, without executing it. `work` must have run before, must not look at results on the
  // host, and must keep alive the tensors it reads and writes. Null where the device records nothing, or not this work:
  // then it says why in a sentence on standard error, and `work` broke off anywhere.
  virtual std::unique_ptr<RecordedWork> record(const std::function<void()>& work) = 0;
};

// "cpu", "cuda" or "cuda:1".
absl::StatusOr<c10::Device> parse_device(const std::string& name);

// The accelerator of a device; it lives as long as the process. FailedPrecondition, with what to do, when this machine
// or this build has none such.
absl::StatusOr<Accelerator*> find_accelerator(c10::Device device);
Accelerator& cpu_accelerator();

}  // namespace hippodrome
