#pragma once

#include <optional>
#include <string>

#include "benchmarks/gpu/problem.h"

namespace hippodrome::gpu_benchmark {

// What a GPU can do in a second: bytes of its memory; FLOPs in float32 outside the tensor cores (a multiply-add is two)
// and, dense, of 16-bit products on them; special functions (exponentials, reciprocals, tanh), 16 per cycle and
// multiprocessor.
struct DevicePeaks {
  double bytes = 0.0, flops = 0.0, products = 0.0, specials = 0.0;
};

// By the name that CUDA gives it: A100, H100 and H200 in the SXM form with 80 GB or more. None for others.
std::optional<DevicePeaks> device_peaks(const std::string& name);

struct Bound {
  double seconds = 0.0;
  const char* by = "";  // what it waits for: "bytes", "flops", "products", "specials"
};

// The least time for `bytes` of traffic and this work: that of the busiest unit. Units without a peak do not count.
Bound least_time(double bytes, const Work& work, const DevicePeaks& peaks);

}  // namespace hippodrome::gpu_benchmark
