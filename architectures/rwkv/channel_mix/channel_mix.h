#pragma once

#include "core/base/config.h"
#include "core/layer/layer.h"
#include "core/layer/linear.h"

namespace hippodrome {

// RWKV-4's channel-mixing block (Peng et al. 2023, section 3.1): token shift, squared ReLU, receptance. README.md.
class RwkvChannelMix final : public Layer {
 public:
  struct Config {
    double expansion = 4.0;  // F / D
    void bind(Fields& fields);
  };

  RwkvChannelMix(const Config& config, const Site& site);

  // x [B, L, D] -> [B, L, E].
  Tensor forward(const Tensor& x, const Context& context, State* state) override;
  // shift [B, D], the last input; float32 or wider.
  State initial_state(const StateSpec& spec) const override;
  Traits traits() const override;
  Cost cost(const Workload& workload) const override;

 private:
  int64_t width_, hidden_;
  ParameterPtr mix_k_, mix_r_;  // [D]
  Linear key_;                  // [F, D]
  Linear receptance_;           // [E, D]
  Linear value_;                // [E, F]
};

}  // namespace hippodrome
