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
  std::string layer;                   // registered name; empty: the pattern entry's name
  std::string norm = "layer_norm";     // layer_norm | rms_norm
  std::string norm_position = "pre";   // pre: x + layer(norm(x)); post: norm(x + layer(x)); none
  double norm_epsilon = 1e-5;
  bool residual = true;
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

// A block is data: {layer, norm pre | post | none, residual or not}. The residual stream keeps x's dtype; the layer sees the
// compute dtype.
class Block {
 public:
  // `table` holds the block's keys and the layer's; `defaults` are the model's. `path` is for error sentences.
  static absl::StatusOr<std::unique_ptr<Block>> make(const std::string& entry, const ConfigValue& table,
                                                     const BlockConfig& defaults, const std::string& path,
                                                     const Site& site, const Registry& registry);

  // x [B, L, D] -> [B, L, D].
  Tensor forward(const Tensor& x, const Context& context, State* state, at::ScalarType compute_dtype);

  Layer& layer() { return *layer_; }
  const Layer& layer() const { return *layer_; }
  const std::string& layer_name() const { return config_.layer; }
  Parameters& parameters() { return parameters_; }

 private:
  BlockConfig config_;
  std::unique_ptr<Layer> layer_;
  std::optional<Norm> norm_;
  Parameters parameters_;
};

}  // namespace hippodrome
