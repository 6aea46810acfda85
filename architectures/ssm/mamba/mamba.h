#pragma once

#include <optional>
#include <string>

#include "core/base/config.h"
#include "core/layer/derived.h"
#include "core/layer/layer.h"
#include "core/layer/linear.h"
#include "core/layer/norm.h"

namespace hippodrome {

// Mamba's mixer: causal convolution, selective scan, gate (Gu & Dao 2023, section 3.4 and algorithm 2). Equations,
// shapes, state, initial values and cost: README.md.
class Mamba final : public Layer {
 public:
  struct Config {
    int64_t state = 16;    // N
    int64_t conv = 4;      // K
    double expand = 2.0;   // d_in / D
    int64_t dt_rank = 0;   // R; 0: ceil(D / 16)
    bool complex = false;  // A, B, C and the state; N counts complex numbers
    std::string discretisation = "euler";
    int64_t groups = 1;  // G, groups of channels with a B and C of their own
    double dt_min = 1e-3;
    double dt_max = 1e-1;
    double dt_floor = 1e-4;
    bool conv_bias = true;
    bool bias = false;
    bool inner_norms = false;  // RMSNorm of δ, B and C, as Jamba
    double inner_norm_epsilon = 1e-6;
    std::string kernel = "fused";
    void bind(Fields& fields);
  };
  static absl::Status check(const Config& config, const Site& site);

  Mamba(const Config& config, const Site& site);

  // x [B, L, D] -> [B, L, E].
  Tensor forward(const Tensor& x, const Context& context, State* state) override;
  // conv [B, d_in, K-1], the last inputs of the convolution; ssm [B, d_in, N], or [B, d_in, 2N], the real parts and
  // then the imaginary ones. float32 or wider.
  State initial_state(const StateSpec& spec) const override;
  Traits traits() const override;
  Cost cost(const Workload& workload) const override;

 private:
  // A [d_in, N], or its real and then its imaginary parts [d_in, 2N].
  Tensor decay(const Tensor& x);

  Config config_;
  int64_t inner_;             // d_in
  int64_t states_;            // numbers per channel: N, or 2N
  int64_t dt_rank_;           // R
  Linear in_proj_;            // [2 d_in, D]: x, then the gate z
  Linear x_proj_;             // [R + 2GN, d_in]: δ, B, C; N twice where complex
  Linear dt_proj_;            // [d_in, R]; its bias goes to the scan
  Linear out_proj_;           // [E, d_in]
  ParameterPtr conv_weight_;  // [d_in, K]
  ParameterPtr conv_bias_;    // [d_in] or null
  ParameterPtr dt_bias_;      // [d_in]
  ParameterPtr A_log_;        // [d_in, N]
  ParameterPtr A_imaginary_;  // [d_in, N] or null
  ParameterPtr D_;            // [d_in]
  Derived<Tensor> A_;         // -exp(A_log)
  // Of δ [R], B and C [N, or 2N]; none without inner_norms.
  std::optional<Norm> dt_norm_, B_norm_, C_norm_;
};

}  // namespace hippodrome
