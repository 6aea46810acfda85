#include "core/model/block.h"

#include "core/layer/segments.h"

namespace hippodrome {

void BlockConfig::bind(Fields& fields) {
  fields.text("layer", layer, "registered layer; default: the name of the pattern entry");
  fields.choice("norm", norm, {"layer_norm", "rms_norm"}, "normalisation of the block");
  fields.choice("norm_position", norm_position, {"pre", "post", "none"}, "before the layer, after the residual sum, or none");
  fields.number("norm_epsilon", norm_epsilon, {0.0, 1.0}, "added to the variance");
  fields.flag("residual", residual, "add the block's input to the layer's output");
}

absl::StatusOr<BlockTable> part_block_table(const std::string& entry, const ConfigValue& table,
                                            const BlockConfig& defaults, const std::string& path) {
  BlockTable parted{defaults, ConfigValue(ConfigValue::Table{}, table.where())};
  parted.block.layer = entry;
  DescribeFields block_keys;
  BlockConfig().bind(block_keys);
  ConfigValue own;
  for (const auto& [key, value] : *table.table()) {
    bool is_own = false;
    for (const FieldDescription& field : block_keys.result) {
      is_own = is_own || field.key == key;
    }
    (is_own ? own : parted.layer).set(key, value);
  }
  ReadFields fields(own, path);
  parted.block.bind(fields);
  RETURN_IF_ERROR(fields.finish());
  return parted;
}

absl::StatusOr<std::unique_ptr<Block>> Block::make(const std::string& entry, const ConfigValue& table,
                                                   const BlockConfig& defaults, const std::string& path,
                                                   const Site& site, const Registry& registry) {
  ASSIGN_OR_RETURN(const BlockTable parted, part_block_table(entry, table, defaults, path));
  auto block = std::make_unique<Block>();
  block->config_ = parted.block;
  const absl::StatusOr<const LayerEntry*> layer_entry = registry.layer(block->config_.layer);
  if (!layer_entry.ok()) {
    const ConfigValue* named = table.find("layer");
    const SourceLocation& where = named ? named->where() : table.where();
    return absl::NotFoundError(where.text() + ": [" + path + "]: " + std::string(layer_entry.status().message()));
  }
  ASSIGN_OR_RETURN(block->layer_, (*layer_entry)->make(parted.layer, path, site));
  if (block->config_.norm_position != "none") {
    block->norm_.emplace(block->config_.norm == "rms_norm" ? Norm::Kind::kRmsNorm : Norm::Kind::kLayerNorm,
                         block->config_.norm_position == "pre" ? site.width : site.output_width,
                         block->config_.norm_epsilon);
    block->parameters_.adopt("norm", block->norm_->parameters());
  }
  block->parameters_.adopt("mixer", block->layer_->parameters());
  return block;
}

Tensor Block::forward(const Tensor& x, const Context& context, State* state, at::ScalarType compute_dtype) {
  const Tensor in = norm_ && config_.norm_position == "pre" ? norm_->forward(x) : x;
  Tensor y = run_layer(*layer_, in.to(compute_dtype), context, state).to(x.scalar_type());
  if (config_.residual) y = x.add(y);
  return norm_ && config_.norm_position == "post" ? norm_->forward(y) : y;
}

}  // namespace hippodrome
