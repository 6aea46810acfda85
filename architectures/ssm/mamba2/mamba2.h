#pragma once

#include <limits>
#include <string>

#include "core/base/config.h"
#include "core/layer/derived.h"
#include "core/layer/layer.h"
#include "core/layer/linear.h"

namespace hippodrome {

// Mamba-2's mixer: causal convolution, SSD, gated RMSNorm (Dao & Gu 2024, section 7). Equations, shapes, state, initial
// values and cost: README.md.
class Mamba2 final : public Layer {
 public:
  struct Config {
    int64_t state = 128;     // N
    int64_t head_size = 64;  // P, at most: the greatest divisor of d_in up to it
    int64_t groups = 1;      // G
    int64_t conv = 4;        // K
    double expand = 2.0;     // d_in / D
    int64_t chunk = 256;
    bool conv_bias = true;
    bool bias = false;
    double dt_min = 1e-3;
    double dt_max = 1e-1;
    double dt_floor = 1e-4;
    double dt_limit_low = 0.0;
    double dt_limit_high = std::numeric_limits<double>::infinity();
    bool norm_before_gate = false;
    double gate_norm_epsilon = 1e-5;
    std::string kernel = "fused";
    void bind(Fields& fields);
  };
  static absl::Status check(const Config& config, const Site& site);

  Mamba2(const Config& config, const Site& site);

  // x [B, L, D] -> [B, L, E].
  Tensor forward(const Tensor& x, const Context& context, State* state) override;
  // conv [B, d_in + 2GN, K-1], the last inputs of the convolution; ssm [B, H, P, N]. float32 or wider.
  State initial_state(const StateSpec& spec) const override;
  Traits traits() const override;
  Cost cost(const Workload& workload) const override;

 private:
  Config config_;
  int64_t inner_;             // d_in
  int64_t head_size_;         // P
  int64_t heads_;             // H
  Linear in_proj_;            // [2 d_in + 2GN + H, D]: z, x, B, C, dt
  Linear out_proj_;           // [E, d_in]
  ParameterPtr conv_weight_;  // [d_in + 2GN, K]
  ParameterPtr conv_bias_;    // [d_in + 2GN] or null
  ParameterPtr dt_bias_;      // [H]
  ParameterPtr A_log_;        // [H]
  ParameterPtr D_;            // [H]
  ParameterPtr norm_weight_;  // [d_in]
  Derived<Tensor> A_;         // -exp(A_log)
};

}  // namespace hippodrome
