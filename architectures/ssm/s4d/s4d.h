#pragma once

#include <optional>
#include <string>

#include "architectures/ssm/s4d/discretisation.h"
#include "core/base/config.h"
#include "core/layer/derived.h"
#include "core/layer/layer.h"
#include "core/layer/linear.h"

namespace hippodrome {

// S4D: a diagonal state-space model per channel, read as a convolution or as a recurrence (Gu, Gupta, Goel & Ré 2022,
// arXiv 2206.11893). Equations, shapes, state and cost: README.md.
class S4d final : public Layer {
 public:
  struct Config {
    int64_t state = 64;  // N, as N/2 conjugate pairs
    std::string init = "legs";
    std::string discretisation = "zoh";
    double dt_min = 1e-3;
    double dt_max = 1e-1;
    std::string output = "glu";
    double learning_rate_scale = 0.1;
    std::string kernel = "scan";
    void bind(Fields& fields);
  };
  static absl::Status check(const Config& config, const Site& site);

  S4d(const Config& config, const Site& site);

  // x [B, L, D] -> [B, L, E].
  Tensor forward(const Tensor& x, const Context& context, State* state) override;
  // ssm [B, D, N/2, 2], real and imaginary parts; float32 or wider.
  State initial_state(const StateSpec& spec) const override;
  Traits traits() const override;
  Cost cost(const Workload& workload) const override;

 private:
  // a, b and C as the recurrence takes them, in float32 or, for float64 activations, float64.
  struct Recurrence {
    Tensor a_real, a_imag, b_real, b_imag, c_real, c_imag;  // each [D, N/2]
  };
  DiscreteSystem discrete_system() const;
  Recurrence recurrence(at::ScalarType dtype);
  Tensor convolve(const Tensor& x) const;
  Tensor recur(const Tensor& x, const Context& context, State* state);

  Config config_;
  int64_t width_, pairs_;
  ParameterPtr log_dt_;           // [D]
  ParameterPtr log_decay_;        // [D, N/2]; A = -e^log_decay + i frequency
  ParameterPtr frequency_;        // [D, N/2]
  ParameterPtr C_;                // [D, N/2, 2]
  ParameterPtr D_;                // [D]
  std::optional<Linear> output_;  // [2E, D]

  Derived<Recurrence> recurrence_;
};

}  // namespace hippodrome
