#include "core/training/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace hippodrome {

double learning_rate(const LearningRateSchedule& schedule, int64_t step) {
  if (step < schedule.warmup) {
    return schedule.peak * static_cast<double>(step + 1) / static_cast<double>(schedule.warmup);
  }
  if (schedule.inverse_sqrt) {
    return schedule.peak * std::sqrt(static_cast<double>(std::max<int64_t>(1, schedule.warmup)) / static_cast<double>(step + 1));
  }
  const auto decay_steps = static_cast<double>(std::max<int64_t>(1, schedule.steps - schedule.warmup));
  const double progress = std::min(1.0, static_cast<double>(step - schedule.warmup) / decay_steps);
  const double cosine = 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  return schedule.peak * (schedule.final_fraction + (1.0 - schedule.final_fraction) * cosine);
}

}  // namespace hippodrome
