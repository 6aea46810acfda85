#pragma once

#include <string>

#include "core/base/config.h"
#include "core/layer/layer.h"
#include "core/layer/linear.h"

namespace hippodrome {

// RWKV-4's time-mixing block (Peng et al. 2023, section 3.1): token shift, WKV, receptance. Equations, state and
// initial values: README.md.
class RwkvTimeMix final : public Layer {
 public:
  struct Config {
    std::string kernel = "fused";
    void bind(Fields& fields);
  };

  RwkvTimeMix(const Config& config, const Site& site);

  // x [B, L, D] -> [B, L, E].
  Tensor forward(const Tensor& x, const Context& context, State* state) override;
  // shift [B, D], the last input; wkv [B, 3, D], numerator, denominator and maximum. float32 or wider.
  State initial_state(const StateSpec& spec) const override;
  Traits traits() const override;
  Cost cost(const Workload& workload) const override;

 private:
  Config config_;
  int64_t width_;
  ParameterPtr time_decay_;             // [D]; the decay per step is e^(-e^time_decay)
  ParameterPtr time_first_;             // [D], the bonus u of the present token
  ParameterPtr mix_k_, mix_v_, mix_r_;  // [D]
  Linear key_, value_, receptance_, output_;
};

}  // namespace hippodrome
