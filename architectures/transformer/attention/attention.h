#pragma once

#include <string>

#include "core/base/config.h"
#include "core/layer/layer.h"
#include "core/layer/linear.h"

namespace hippodrome {

// Causal multi-head attention with grouped keys and values and a cache of them (Vaswani et al. 2017, section 3.2.2;
// Ainslie et al. 2023). Equations, shapes, state and cost: README.md.
class Attention final : public Layer {
 public:
  struct Config {
    int64_t heads = 4;
    int64_t kv_heads = 0;   // G; 0: as many as heads
    int64_t head_size = 0;  // hd; 0: ceil(D / heads), made even
    std::string positions = "rope";
    double rope_base = 10000.0;
    std::string rope_layout = "half";
    bool qkv_bias = false;
    bool output_bias = false;
    std::string kernel = "library";
    std::string init = "default";
    void bind(Fields& fields);
  };
  static absl::Status check(const Config& config, const Site& site);

  Attention(const Config& config, const Site& site);

  // x [B, L, D] -> [B, L, E]. Padding attends to nothing; packed sequences do not see each other.
  Tensor forward(const Tensor& x, const Context& context, State* state) override;
  // k, v [B, G, T, hd] in the activations' dtype.
  State initial_state(const StateSpec& spec) const override;
  Traits traits() const override;
  Cost cost(const Workload& workload) const override;

 private:
  // What a query may see: `visible` [B or 1, 1, L, T] bool where given, else the causal triangle, which is the whole
  // row for a single token.
  struct Scope {
    Tensor visible;
    bool triangle = false;
  };
  Scope scope(const Context& context, const State* state, int64_t length, int64_t earlier) const;
  // q [B, H, L, hd], k, v [B, G, T, hd] -> [B, L, H hd].
  Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, const Scope& scope) const;
  Tensor attend_reference(const Tensor& q, const Tensor& k, const Tensor& v, const Scope& scope,
                          Observer* observer) const;

  Config config_;
  std::string name_;
  int64_t heads_, kv_heads_, head_size_;
  Linear qkv_;  // [(H + 2G) hd, D]: queries, keys, values
  Linear out_;  // [E, H hd]
};

}  // namespace hippodrome
