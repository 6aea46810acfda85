#pragma once

#include <memory>
#include <optional>
#include <string>

#include "core/layer/layer.h"
#include "core/layer/norm.h"
#include "core/layer/registry.h"

namespace hippodrome {

// What surrounds a layer in a block, as recipes write it beside the layer's own keys.
struct BlockConfig {
  std::string layer;                  // registered name; empty: the pattern entry's name
  std::string norm = "layer_norm";    // layer_norm | rms_norm
  std::string norm_position = "pre";  // pre: x + layer(norm(x)); post: norm(x + layer(x)); none
  double norm_epsilon = 1e-5;
  bool residual = true;
  double dropout = 0.0;               // of the layer's output, in training
  std::string direction = "forward";  // forward | backward | both, in encoders: which way the layer reads
  int64_t output_width = 0;           // E; 0: the stack's width, twice that for both directions
  void bind(Fields& fields);
};

// A pattern entry's table, parted: the block's own keys, read over defaults, and those left for the layer.
struct BlockTable {
  BlockConfig block;
  ConfigValue layer;
};
// `path` is for error sentences.
absl::StatusOr<BlockTable> part_block_table(const std::string& entry, const ConfigValue& table,
                                            const BlockConfig& defaults, const std::string& path);

// A block is data: {layer, norm pre | post | none, residual or not, direction}. The residual stream keeps x's dtype;
// the layer sees the compute dtype. A block that reads backward as well has a second layer of the same config, whose
// outputs stand behind the first's (Bahdanau et al. 2015, section 3.2).
class Block {
 public:
  // `table` holds the block's keys and the layer's; `defaults` are the stack's. `path` is for error sentences. The
  // site's output_width is the stack's width; the block's own may differ, see output_width().
  static absl::StatusOr<std::unique_ptr<Block>> make(const std::string& entry, const ConfigValue& table,
                                                     const BlockConfig& defaults, const std::string& path,
                                                     const Site& site, const Registry& registry);

  // x [B, L, D] -> [B, L, E].
  Tensor forward(const Tensor& x, const Context& context, State* state, at::ScalarType compute_dtype);

  int64_t output_width() const { return output_width_; }
  bool causal() const;        // whether an output depends on no later input
  bool mixes_tokens() const;  // whether an output depends on other tokens than its own, or on an encoder's
  State initial_state(const StateSpec& spec) const;
  Cost cost(const Workload& workload) const;
  int64_t mixer_parameters() const;     // all but the norm's
  int64_t inactive_parameters() const;  // those that a token does not meet: of experts it is not sent to

  Layer& layer() { return *layer_; }
  const Layer& layer() const { return *layer_; }
  const std::string& layer_name() const { return config_.layer; }
  double dropout_rate() const { return config_.dropout; }
  Parameters& parameters() { return parameters_; }

 private:
  BlockConfig config_;
  std::string name_;
  int64_t output_width_ = 0;
  std::unique_ptr<Layer> layer_;
  std::unique_ptr<Layer> backward_;  // direction "both" only
  std::optional<Norm> norm_;
  Parameters parameters_;
};

}  // namespace hippodrome
