// How long a GPU works at something, free of the host: launches are not counted, nor what waits for them.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "core/tensor/accelerator.h"

namespace hippodrome::gpu_benchmark {

// Keeps the current stream busy, and its cache full of other things, by copies of 256 MiB.
class Filler {
 public:
  explicit Filler(at::Device device);
  // Enqueues copies for at least this long.
  void enqueue(double seconds);
  double bytes_per_second() const { return bytes_per_second_; }  // of a copy, read and written

 private:
  void copy();

  at::Tensor from_, to_;
  double copy_seconds_ = 1e-4, bytes_per_second_ = 0.0;
};

// One work and its samples. A sample is taken behind copies that last longer than the host takes to enqueue the work,
// so that the GPU never waits for the host, and that leave nothing of the work's inputs in the cache.
class Timed {
 public:
  Timed(std::function<void()> work, Filler& filler, Accelerator& gpu);
  // Seconds of the GPU from the work's first kernel to its last.
  double sample();
  const std::vector<double>& samples() const { return samples_; }

 private:
  double run();

  std::function<void()> work_;
  Filler& filler_;
  Accelerator& gpu_;
  double host_seconds_ = 0.0;  // the longest enqueueing so far
  std::vector<double> samples_;
};

}  // namespace hippodrome::gpu_benchmark
