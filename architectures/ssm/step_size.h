#pragma once

#include "core/layer/parameters.h"

namespace hippodrome {

// softplus⁻¹(Δ) for Δ log-uniform in [low, high], at least `floor`: the initial bias of Mamba's step sizes (Gu & Dao
// 2023, section 3.6).
Initialiser inverse_softplus_of_log_uniform(double low, double high, double floor);

}  // namespace hippodrome
