#include "architectures/ssm/step_size.h"

#include <ATen/ops/empty.h>

#include <cmath>

namespace hippodrome {

Initialiser inverse_softplus_of_log_uniform(double low, double high, double floor) {
  return [low, high, floor](Tensor& value, RandomStream stream) {
    Tensor dt = at::empty(value.sizes(), value.options().dtype(at::kDouble));
    initialise::uniform(std::log(low), std::log(high))(dt, stream);
    dt.exp_().clamp_min_(floor);
    value.copy_(dt.add(dt.neg().expm1_().neg_().log_()));
  };
}

}  // namespace hippodrome
