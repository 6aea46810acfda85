#pragma once

#include <cstdint>

namespace hippodrome {

// Linear warm-up to `peak` over `warmup` steps, then half a cosine down to `peak * final_fraction` at `steps`; or peak ·
// √(warmup / step), which with peak = (width · warmup)^-½ is the schedule of Vaswani et al. 2017, equation 3.
struct LearningRateSchedule {
  double peak = 1e-3;
  int64_t warmup = 0;
  int64_t steps = 1;
  double final_fraction = 0.1;
  bool inverse_sqrt = false;
};

// The rate of the step with this index, 0 ≤ step < steps; beyond, the final rate.
double learning_rate(const LearningRateSchedule& schedule, int64_t step);

}  // namespace hippodrome
