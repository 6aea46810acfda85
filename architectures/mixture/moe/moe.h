#pragma once

#include <string>

#include "architectures/mixture/moe/router.h"
#include "core/base/config.h"
#include "core/layer/layer.h"
#include "core/layer/linear.h"

namespace hippodrome {

// Sparse mixture of SwiGLU experts: a router sends each token to its K best of n (Jiang et al. 2024, section 2.1; Lieber et
// al. 2024). Equations, shapes, auxiliary loss and cost: README.md.
class Moe final : public Layer {
 public:
  struct Config {
    int64_t experts = 8;         // n
    int64_t top_k = 2;           // K
    int64_t hidden = 0;          // F of one expert; 0: from expansion
    double expansion = 0.0;      // F / D; 0: 8/3
    int64_t multiple = 16;       // F is rounded up to it
    std::string router = "mixtral";
    double balance_loss = 1e-3;  // weight in the training loss
    std::string init = "default";
    std::string kernel = "library";
    void bind(Fields& fields);
  };
  static absl::Status check(const Config& config, const Site& site);

  Moe(const Config& config, const Site& site);

  // x [B, L, D] -> [B, L, E]. Padding goes to no expert and gives 0.
  Tensor forward(const Tensor& x, const Context& context, State* state) override;
  Traits traits() const override;
  Cost cost(const Workload& workload) const override;
  // The router and K experts.
  int64_t active_parameters() const override;

  int64_t hidden() const { return down_.in(); }

 private:
  // x [T, D] -> [T, E].
  Tensor mix(const Tensor& x, const Routing& routing) const;
  Tensor mix_reference(const Tensor& x, const Routing& routing) const;
  int64_t expert_parameters() const { return up_.in() * up_.out() + down_.in() * down_.out(); }

  Config config_;
  std::string name_;
  Linear router_;       // [n, D]
  GroupedLinear up_;    // [n, 2F, D]: gate, then value
  GroupedLinear down_;  // [n, E, F]
};

}  // namespace hippodrome
