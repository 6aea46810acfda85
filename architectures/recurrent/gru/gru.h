#pragma once

#include <optional>
#include <string>

#include "core/base/config.h"
#include "core/layer/layer.h"
#include "core/layer/linear.h"

namespace hippodrome {

// Gated recurrent unit, one layer (Cho et al. 2014, with the reset gate after the recurrent product, as cuDNN and
// PyTorch). Equations, shapes, state and cost: README.md.
class Gru final : public Layer {
 public:
  struct Config {
    int64_t hidden = 0;  // H; 0: the output width, without a projection after it
    std::string kernel = "fused";
    void bind(Fields& fields);
  };

  Gru(const Config& config, const Site& site);

  // x [B, L, D] -> [B, L, E].
  Tensor forward(const Tensor& x, const Context& context, State* state) override;
  // h [B, H], float32 or wider.
  State initial_state(const StateSpec& spec) const override;
  Traits traits() const override;
  Cost cost(const Workload& workload) const override;

 private:
  Tensor forward_library(const Tensor& x, State* state) const;

  Config config_;
  int64_t hidden_;
  Linear input_;  // [3H, D] with bias: gates r, z, n
  ParameterPtr input_bias_;
  ParameterPtr weight_hh_;        // [3H, H]
  ParameterPtr bias_hn_;          // [H], inside the reset gate's product
  std::optional<Linear> output_;  // [E, H], only when `hidden` is given
};

}  // namespace hippodrome
