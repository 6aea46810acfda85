#pragma once

#include <optional>
#include <string>
#include <vector>

#include "architectures/ssm/s4/dplr.h"
#include "core/base/config.h"
#include "core/layer/derived.h"
#include "core/layer/layer.h"
#include "core/layer/linear.h"

namespace hippodrome {

// S4: a state-space model per channel whose matrix is diagonal plus low rank, started from HiPPO, read as a convolution
// or as a recurrence (Gu, Goel & Ré 2021, arXiv 2111.00396). Equations, shapes, state and cost: README.md.
class S4 final : public Layer {
 public:
  struct Config {
    int64_t state = 64;  // N, as N/2 conjugate pairs
    std::string init = "legs";
    double dt_min = 1e-3;
    double dt_max = 1e-1;
    std::string output = "glu";
    double learning_rate_scale = 0.1;
    std::string kernel = "woodbury";
    void bind(Fields& fields);
  };
  static absl::Status check(const Config& config, const Site& site);

  S4(const Config& config, const Site& site);

  // x [B, L, D] -> [B, L, E].
  Tensor forward(const Tensor& x, const Context& context, State* state) override;
  // ssm [B, D, N/2, 2], real and imaginary parts; float32 or wider.
  State initial_state(const StateSpec& spec) const override;
  Traits traits() const override;
  Cost cost(const Workload& workload) const override;

 private:
  // The recurrence as its op takes it: pairs of reals, in float32 or float64.
  struct Woodbury {
    Tensor a, b, c, q, w;
  };
  std::vector<Tensor> sources() const;
  DplrSystem system() const;
  Woodbury woodbury(at::ScalarType dtype);
  Tensor convolve(const Tensor& x) const;
  Tensor recur(const Tensor& x, const Context& context, State* state);
  Tensor recur_diagonally(const Tensor& x, const Context& context, State* state);

  Config config_;
  int64_t width_, pairs_, rank_;
  ParameterPtr log_dt_;           // [D]
  ParameterPtr log_decay_;        // [D, N/2]; Λ = -e^log_decay + i frequency
  ParameterPtr frequency_;        // [D, N/2]
  ParameterPtr P_;                // [D, R, N/2, 2]
  ParameterPtr B_;                // [D, N/2, 2]
  ParameterPtr C_;                // [D, N/2, 2]
  ParameterPtr D_;                // [D]
  std::optional<Linear> output_;  // [2E, D]

  Derived<Woodbury> woodbury_;
  Derived<DiagonalRecurrence> diagonal_;
};

}  // namespace hippodrome
