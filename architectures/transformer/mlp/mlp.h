#pragma once

#include <string>

#include "core/base/config.h"
#include "core/layer/layer.h"
#include "core/layer/linear.h"

namespace hippodrome {

// F of a SwiGLU layer: expansion · D (0: 8/3 D, which keeps an ungated layer's parameter count), rounded up to `multiple`.
int64_t swiglu_width(double expansion, int64_t multiple, int64_t width);

// Position-wise feed-forward layer of width F: W_down act(W_up x), or with a SwiGLU gate W_down (silu(W_gate x) ∘ W_up
// x) (Shazeer 2020, equation 6). Equations, shapes and cost: README.md.
class Mlp final : public Layer {
 public:
  struct Config {
    std::string activation = "gelu";
    double expansion = 0.0;  // F / D; 0: 4, and 8/3 for swiglu
    int64_t multiple = 16;   // swiglu's F is rounded up to it
    int64_t hidden = 0;      // F itself; 0: from expansion
    bool bias = true;
    std::string init = "default";
    void bind(Fields& fields);
  };

  Mlp(const Config& config, const Site& site);

  // x [B, L, D] -> [B, L, E].
  Tensor forward(const Tensor& x, const Context& context, State* state) override;
  Traits traits() const override;
  Cost cost(const Workload& workload) const override;

  int64_t hidden() const { return down_.in(); }

 private:
  Config config_;
  Linear up_;  // swiglu: gate and value, [2F, D] in this order
  Linear down_;
};

}  // namespace hippodrome
