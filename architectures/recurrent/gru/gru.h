#pragma once

#include <optional>
#include <string>
#include <tuple>

#include "core/base/config.h"
#include "core/layer/layer.h"
#include "core/layer/linear.h"

namespace hippodrome {

// Gated recurrent unit, one layer (Cho et al. 2014): with the reset gate after the recurrent product, as cuDNN and PyTorch,
// or before it, as the paper and Bahdanau et al. 2015. Equations, shapes, state and cost: README.md.
class Gru final : public Layer {
 public:
  struct Config {
    int64_t hidden = 0;  // H; 0: the output width, without a projection after it
    std::string reset = "after";
    bool bias = true;    // of the gates
    std::string init = "default";
    std::string kernel = "fused";
    void bind(Fields& fields);
  };
  static absl::Status check(const Config& config, const Site& site);

  Gru(const Config& config, const Site& site);

  // x [B, L, D] -> [B, L, E].
  Tensor forward(const Tensor& x, const Context& context, State* state) override;
  // h [B, H], float32 or wider.
  State initial_state(const StateSpec& spec) const override;
  Traits traits() const override;
  Cost cost(const Workload& workload) const override;

 private:
  Tensor forward_library(const Tensor& x, State* state) const;
  // The paper's form, which the attentive recurrence computes where there is nothing to attend to.
  std::tuple<Tensor, Tensor> reset_before(const Tensor& x, const Context& context, const OptionalTensor& h0) const;

  Config config_;
  int64_t hidden_;
  Linear input_;  // [3H, D], with bias unless told otherwise: gates r, z, n
  ParameterPtr input_bias_;       // null without
  ParameterPtr weight_hh_;        // [3H, H]
  ParameterPtr bias_hn_;          // [H], inside the reset gate's product; null without biases, or with the reset before it
  std::optional<Linear> output_;  // [E, H], only when `hidden` is given
};

}  // namespace hippodrome
