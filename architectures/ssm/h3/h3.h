#pragma once

#include <string>

#include "core/base/config.h"
#include "core/layer/derived.h"
#include "core/layer/layer.h"
#include "core/layer/linear.h"

namespace hippodrome {

// H3's mixer: a shift and a diagonal state-space model between multiplicative gates, in the place of attention's
// queries, keys and values (Dao, Fu, Saab, Thomas, Rudra & Ré 2022, arXiv 2212.14052). Equations, shapes, state and
// cost: README.md.
class H3 final : public Layer {
 public:
  struct Config {
    int64_t state = 64;       // N of the diagonal model, as N/2 conjugate pairs
    int64_t shift_state = 0;  // N of the shift model; 0: as `state`
    int64_t head_size = 1;    // dh
    std::string poles = "lin";
    std::string discretisation = "bilinear";
    double dt_min = 1e-3;
    double dt_max = 1e-1;
    double learning_rate_scale = 1.0;
    std::string init = "default";
    std::string kernel = "fused";
    void bind(Fields& fields);
  };
  static absl::Status check(const Config& config, const Site& site);

  H3(const Config& config, const Site& site);

  // x [B, L, D] -> [B, L, E].
  Tensor forward(const Tensor& x, const Context& context, State* state) override;
  // shift [B, N, D], the last keys, oldest first; ssm [B, D dh, N/2, 2], real and imaginary parts. float32 or wider.
  State initial_state(const StateSpec& spec) const override;
  Traits traits() const override;
  Cost cost(const Workload& workload) const override;

 private:
  // Both models as their operators take them, in float32 or, for float64 activations, float64.
  struct Operators {
    Tensor taps;                                            // [N, D], the newest key's first, D_s in it
    Tensor a_real, a_imag, b_real, b_imag, c_real, c_imag;  // each [D dh, N/2]
  };
  Operators derive(at::ScalarType dtype) const;
  // The diagonal model of kv [B, L, D dh].
  Tensor recur(const Tensor& kv, const Operators& operators, const Context& context, State* state) const;
  Tensor convolve(const Tensor& kv) const;

  Config config_;
  int64_t width_, heads_;               // D; D / dh, the features of the diagonal model
  int64_t channels_;                    // D dh: an outer product a head
  int64_t pairs_;                       // N / 2
  Linear q_, k_, v_;                    // [D, D]
  Linear output_;                       // [E, D]
  ParameterPtr shift_B_, shift_C_;      // [D, N]
  ParameterPtr shift_D_;                // [D]
  ParameterPtr log_dt_;                 // [D / dh]
  ParameterPtr log_decay_, frequency_;  // [D / dh, N/2]; A = -e^log_decay + i frequency
  ParameterPtr B_, C_;                  // [D / dh, N/2, 2]
  ParameterPtr D_;                      // [D / dh]
  Derived<Operators> derived_;
};

}  // namespace hippodrome
