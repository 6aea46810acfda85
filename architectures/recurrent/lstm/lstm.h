#pragma once

#include <optional>
#include <string>

#include "core/base/config.h"
#include "core/layer/layer.h"
#include "core/layer/linear.h"

namespace hippodrome {

// Long short-term memory, one layer (Hochreiter & Schmidhuber 1997; forget gates: Gers et al. 2000). Equations, shapes,
// state and cost: README.md.
class Lstm final : public Layer {
 public:
  struct Config {
    int64_t hidden = 0;        // H; 0: the output width, without a projection after it
    double forget_bias = 1.0;  // added to the forget gates' initial bias
    bool bias = true;          // of the gates
    double init_range = 0.0;   // weights U(±this), as Sutskever et al. and GNMT have it; 0: U(±1/√H)
    std::string kernel = "fused";
    void bind(Fields& fields);
  };

  Lstm(const Config& config, const Site& site);

  // x [B, L, D] -> [B, L, E].
  Tensor forward(const Tensor& x, const Context& context, State* state) override;
  // h, c [B, H], float32 or wider.
  State initial_state(const StateSpec& spec) const override;
  Traits traits() const override;
  Cost cost(const Workload& workload) const override;

 private:
  Tensor forward_library(const Tensor& x, State* state) const;

  Config config_;
  int64_t hidden_;
  Linear input_;  // [4H, D], with bias unless told otherwise: gates i, f, g, o
  ParameterPtr input_bias_;       // null without
  ParameterPtr weight_hh_;        // [4H, H]
  std::optional<Linear> output_;  // [E, H], only when `hidden` is given
};

}  // namespace hippodrome
