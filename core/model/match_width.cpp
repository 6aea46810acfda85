#include <algorithm>
#include <cmath>

#include "core/model/language_model.h"

namespace hippodrome {
namespace {

// The parameter count at this width; the error of a width that the layers refuse (heads that do not divide it, say).
absl::StatusOr<double> count_at(ModelConfig& config, int64_t width, int64_t vocabulary, const std::string& path,
                                const Registry& registry) {
  config.width = width;
  ASSIGN_OR_RETURN(const auto model, LanguageModel::make(config, vocabulary, path, registry));
  return static_cast<double>(model->parameters().count());
}

}  // namespace

absl::StatusOr<int64_t> match_width(ModelConfig config, int64_t vocabulary, const std::string& path,
                                    const Registry& registry, double target, double tolerance) {
  // Counts grow with width, so the best multiple of each granularity is found by bisection; the coarsest granularity that
  // lands within the tolerance wins, because wide multiples suit the vector units.
  double nearest = 0.0;
  absl::Status refused;
  for (const int64_t granularity : {16, 8, 4, 2, 1}) {
    int64_t low = 1, high = std::max<int64_t>(2, static_cast<int64_t>(std::sqrt(target)) * 4 / granularity);
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      const auto count = count_at(config, middle * granularity, vocabulary, path, registry);
      if (!count.ok()) {
        refused = count.status();
        break;
      }
      if (*count < target) low = middle + 1; else high = middle;
    }
    if (!refused.ok()) break;
    for (const int64_t candidate : {low, low - 1}) {
      if (candidate < 1) continue;
      ASSIGN_OR_RETURN(const double count, count_at(config, candidate * granularity, vocabulary, path, registry));
      if (std::abs(count - target) < std::abs(nearest - target)) nearest = count;
      if (std::abs(count - target) <= tolerance * target) return candidate * granularity;
    }
  }
  if (!refused.ok()) return refused;
  return absl::FailedPreconditionError(
      "[" + path + "] no width gives " + std::to_string(static_cast<int64_t>(target)) + " parameters to within " +
      std::to_string(static_cast<int64_t>(std::lround(100 * tolerance))) + " %; the nearest count is " +
      std::to_string(static_cast<int64_t>(nearest)) + ": change `match`, `repeats`, or the vocabulary");
}

}  // namespace hippodrome
