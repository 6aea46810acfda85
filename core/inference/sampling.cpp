#include "core/inference/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace hippodrome {

absl::Status check(const SamplingOptions& options) {
  if (!(options.temperature >= 0.0)) return absl::InvalidArgumentError("the temperature must not be negative");
  if (options.top_k < 0) return absl::InvalidArgumentError("top-k must not be negative; 0 keeps every token");
  if (!(options.top_p > 0.0 && options.top_p <= 1.0)) return absl::InvalidArgumentError("top-p must be above 0 and at most 1");
  return absl::OkStatus();
}

int64_t sample(const Tensor& logits, const SamplingOptions& options, RandomStream& stream) {
  const Tensor wide = logits.to(at::kCPU, at::kDouble).contiguous();
  const double* values = wide.const_data_ptr<double>();
  const auto size = static_cast<size_t>(wide.numel());
  const double draw = stream.uniform();
  std::vector<int64_t> order(size);
  std::iota(order.begin(), order.end(), 0);
  const auto likelier = [values](int64_t a, int64_t b) { return values[a] != values[b] ? values[a] > values[b] : a < b; };
  if (options.temperature == 0.0) return *std::min_element(order.begin(), order.end(), likelier);

  size_t kept = options.top_k > 0 ? std::min(size, static_cast<size_t>(options.top_k)) : size;
  if (kept < size || options.top_p < 1.0) {
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(), likelier);
  }
  double largest = values[order[0]];
  for (size_t i = 0; i < kept; ++i) largest = std::max(largest, values[order[i]]);
  std::vector<double> weights(kept);
  double total = 0.0;
  for (size_t i = 0; i < kept; ++i) total += weights[i] = std::exp((values[order[i]] - largest) / options.temperature);
  if (options.top_p < 1.0) {
    double mass = 0.0;
    size_t nucleus = 0;
    while (nucleus < kept && mass < options.top_p * total) mass += weights[nucleus++];
    kept = std::max<size_t>(1, nucleus);
    total = mass;
  }
  double rest = draw * total;
  for (size_t i = 0; i < kept; ++i) {
    if (rest < weights[i]) return order[i];
    rest -= weights[i];
  }
  return order[kept - 1];  // rounding left a crumb beyond the last
}

}  // namespace hippodrome
