#include <algorithm>
#include <cmath>

#include "core/model/language_model.h"

namespace hippodrome {
namespace {

// Layers may refuse widths (heads that do not divide it, say): this many multiples are looked through for one they
// take.
constexpr int64_t kMostRefused = 64;

// A width that the layers take, as a multiple of the granularity, and the parameter count there.
struct Candidate {
  int64_t multiple;
  double count;
};

// The first multiple that the layers take from `from` on, upwards (step 1) or downwards (step −1); their refusal when
// none is.
absl::StatusOr<Candidate> first_taken(ModelConfig& config, int64_t from, int64_t step, int64_t granularity,
                                      int64_t vocabulary, const std::string& path, const Registry& registry) {
  absl::Status refusal = absl::OutOfRangeError("no width is left");
  for (int64_t i = 0; i < kMostRefused && from + i * step >= 1; ++i) {
    const int64_t multiple = from + i * step;
    config.width = multiple * granularity;
    const auto model = LanguageModel::make(config, vocabulary, path, registry);
    if (model.ok()) return Candidate{multiple, static_cast<double>((*model)->parameters().count())};
    refusal = model.status();
  }
  return refusal;
}

}  // namespace

absl::StatusOr<int64_t> match_width(ModelConfig config, int64_t vocabulary, const std::string& path,
                                    const Registry& registry, double target, double tolerance) {
  // Counts grow with width, so the best multiple of each granularity is found by bisection; the coarsest granularity
  // that lands within the tolerance wins, because wide multiples suit the vector units.
  double nearest = 0.0;
  absl::Status refusal;
  for (const int64_t granularity : {16, 8, 4, 2, 1}) {
    const auto taken = [&](int64_t from, int64_t step) {
      return first_taken(config, from, step, granularity, vocabulary, path, registry);
    };
    int64_t low = 1, high = std::max<int64_t>(2, static_cast<int64_t>(std::sqrt(target)) * 4 / granularity);
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      const auto candidate = taken(middle, 1);
      if (!candidate.ok()) refusal = candidate.status();
      if (candidate.ok() && candidate->count < target)
        low = middle + 1;
      else
        high = middle;
    }
    for (const auto& candidate : {taken(low, 1), taken(low - 1, -1)}) {
      if (!candidate.ok()) continue;
      const double count = candidate->count;
      if (std::abs(count - target) < std::abs(nearest - target)) nearest = count;
      if (std::abs(count - target) <= tolerance * target) return candidate->multiple * granularity;
    }
  }
  if (nearest == 0.0 && !refusal.ok()) return refusal;
  return absl::FailedPreconditionError(
      "[" + path + "] no width gives " + std::to_string(static_cast<int64_t>(target)) + " parameters to within " +
      std::to_string(static_cast<int64_t>(std::lround(100 * tolerance))) + " %; the nearest count is " +
      std::to_string(static_cast<int64_t>(nearest)) + ": change `match`, `repeats`, or the vocabulary");
}

}  // namespace hippodrome
