#pragma once

#include <utility>

#include "core/tensor/tensor.h"

namespace hippodrome {

// A tensor that a layer knows from its settings alone, made on the CPU, for whatever device asks: it is sent there
// once. A recording (accelerator.h) cannot hold a copy from the host's memory, which is gone when it is replayed.
class DeviceConstant {
 public:
  explicit DeviceConstant(Tensor value) : value_(std::move(value)) {}

  const Tensor& on(at::Device device) {
    if (device.is_cpu()) return value_;
    if (!sent_.defined() || sent_.device() != device) sent_ = value_.to(device);
    return sent_;
  }

 private:
  Tensor value_, sent_;
};

}  // namespace hippodrome
