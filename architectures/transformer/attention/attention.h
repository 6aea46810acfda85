#pragma once

#include <string>

#include "architectures/transformer/attention/rotary.h"
#include "core/base/config.h"
#include "core/layer/layer.h"
#include "core/layer/linear.h"
#include "core/tensor/device_constant.h"

namespace hippodrome {

// Multi-head attention with grouped keys and values and a cache of them (Vaswani et al. 2017, section 3.2.2; Ainslie et
// al. 2023), causal, or to both sides as encoders use it. Equations, shapes, state and cost: README.md.
class Attention final : public Layer {
 public:
  struct Config {
    int64_t heads = 4;
    int64_t kv_heads = 0;   // G; 0: as many as heads
    int64_t head_size = 0;  // hd; 0: ceil(D / heads), made even
    std::string positions = "rope";
    double rope_base = 10000.0;
    std::string rope_layout = "half";
    std::string rope_scaling = "none";
    double rope_factor = 8.0;
    double rope_low_frequency_factor = 1.0;
    double rope_high_frequency_factor = 4.0;
    int64_t rope_original_length = 8192;
    int64_t window = 0;  // W; 0: none
    bool causal = true;  // false: every token sees its whole sequence
    bool qkv_bias = false;
    bool output_bias = false;
    std::string kernel = "fused";
    std::string init = "default";
    void bind(Fields& fields);
  };
  static absl::Status check(const Config& config, const Site& site);

  Attention(const Config& config, const Site& site);

  // x [B, L, D] -> [B, L, E]. Padding attends to nothing; packed sequences do not see each other.
  Tensor forward(const Tensor& x, const Context& context, State* state) override;
  // k, v [B, G, T, hd] in the activations' dtype; nothing where tokens see both sides.
  State initial_state(const StateSpec& spec) const override;
  Traits traits() const override;
  Cost cost(const Workload& workload) const override;

 private:
  // What the queries of a call, the last of `total` tokens, may see: the tokens up to their own (all of them, where not
  // causal), of their own sequence where positions [B, T] hold padding or packing, within the window.
  struct Sight {
    int64_t earlier = 0, total = 0;
    Tensor positions;
    OptionalTensor op_positions() const { return positions.defined() ? OptionalTensor(positions) : std::nullopt; }
  };
  // A projection [B, L, (H + 2G) hd] as queries, keys and values, the first two at their positions.
  QueriesKeysValues split_heads(const Tensor& projected, const Context& context);
  // The mask of tokens [begin, end) over keys [first, end), [B or 1, 1, queries, keys] bool.
  Tensor visible(const Sight& sight, int64_t begin, int64_t end, int64_t first, const Tensor& like) const;
  // By the weights themselves, as the reference for both sides: q [B, H, L, hd], k, v [B, G, T, hd] -> [B, H, L, hd].
  Tensor weighted_sum(const Tensor& q, const Tensor& k, const Tensor& v, const Sight& sight) const;
  // By LibTorch: the same shapes.
  Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, const Sight& sight) const;
  Tensor scaled_dot_product(const Tensor& q, const Tensor& k, const Tensor& v, OptionalTensor mask,
                            bool triangle) const;
  // The softmax itself, for those who look: [B, H, L, T].
  Tensor weights(const Tensor& q, const Tensor& k, const Sight& sight) const;

  Config config_;
  std::string name_;
  int64_t heads_, kv_heads_, head_size_;
  DeviceConstant frequencies_;  // radians per position, [hd / 2]
  Linear qkv_;                  // [(H + 2G) hd, D]: queries, keys, values
  Linear out_;                  // [E, H hd]
};

}  // namespace hippodrome
