#include "benchmarks/gpu/device_peaks.h"

namespace hippodrome::gpu_benchmark {

// Bandwidths and tensor cores are NVIDIA's data sheets'; the others are counted from lanes and boost clocks.
std::optional<DevicePeaks> device_peaks(const std::string& name) {
  const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
  if (has("H200")) return DevicePeaks{4.8e12, 59.2e12, 989e12, 3.71e12};
  if (has("H100") && has("HBM3")) return DevicePeaks{3.35e12, 59.2e12, 989e12, 3.71e12};
  if (has("A100-SXM4-80GB")) return DevicePeaks{2.04e12, 19.5e12, 312e12, 2.44e12};
  return std::nullopt;
}

Bound least_time(double bytes, const Work& work, const DevicePeaks& peaks) {
  Bound bound;
  const auto count = [&](const char* by, double amount, double peak) {
    if (peak > 0.0 && amount / peak > bound.seconds) bound = {amount / peak, by};
  };
  count("bytes", bytes, peaks.bytes);
  count("flops", work.flops, peaks.flops);
  count("products", work.products, peaks.products);
  count("specials", work.specials, peaks.specials);
  return bound;
}

}  // namespace hippodrome::gpu_benchmark
