#pragma once

#include <memory>
#include <string>
#include <vector>

#include "architectures/ssm/hippo/hippo.h"
#include "architectures/ssm/lssl/dense_system.h"
#include "core/base/config.h"
#include "core/layer/derived.h"
#include "core/layer/layer.h"
#include "core/layer/linear.h"

namespace hippodrome {

// LSSL: a state-space model per channel with a dense matrix, read as a convolution or as a recurrence (Gu, Johnson,
// Goel, Saab, Dao, Rudra & Ré 2021, arXiv 2110.13985). Equations, shapes, state and cost: README.md.
class Lssl final : public Layer {
 public:
  struct Config {
    int64_t state = 64;    // N
    int64_t channels = 1;  // M, outputs of each feature's system
    std::string init = "legs";
    std::string transition = "fixed";
    std::string form = "dense";
    bool train_dt = false;
    double dt_min = 1e-3;
    double dt_max = 1e-1;
    double learning_rate_scale = 0.1;
    double dt_learning_rate_scale = 1.0;
    std::string kernel = "convolution";
    void bind(Fields& fields);
  };
  static absl::Status check(const Config& config, const Site& site);

  Lssl(const Config& config, const Site& site);

  // x [B, L, D] -> [B, L, E].
  Tensor forward(const Tensor& x, const Context& context, State* state) override;
  // ssm [B, D, N]; float32 or wider.
  State initial_state(const StateSpec& spec) const override;
  Traits traits() const override;
  Cost cost(const Workload& workload) const override;

 private:
  // Ā, B̄ and C for steps in float32 or float64.
  struct Step {
    Tensor A, B, C;  // [D, N, N], [D, N], [D, M, N]
  };
  std::vector<Tensor> sources() const;
  DiscreteMatrices discrete();
  std::shared_ptr<DenseSystem> system();
  Tensor convolve(const Tensor& u, State* state);
  Tensor step_by_step(const Tensor& u, State* state);

  Config config_;
  int64_t width_;
  bool frozen_;                         // neither A nor Δ is trained
  ParameterPtr log_dt_;                 // [D]
  std::vector<ParameterPtr> dynamics_;  // what A and B are made of, see README.md; empty when fixed
  HippoSystem fixed_;                   // where the parameters are, once it was asked for there; of a fixed transition
  ParameterPtr C_;                      // [D, M, N]
  ParameterPtr D_;                      // [D, M]
  Linear output_;                       // [E, D M]

  Derived<std::shared_ptr<DenseSystem>> system_;
  Derived<Step> step_;
};

}  // namespace hippodrome
