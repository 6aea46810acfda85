#include "core/model/block.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/where.h>

#include "core/layer/segments.h"
#include "core/tensor/dropout.h"

namespace hippodrome {
namespace {

// The rows of a call read from their last token to their first. Padding moves to the other side.
Context reversed(const Context& context) {
  Context result = context;
  const Tensor last = std::get<0>(context.positions.max(1, /*keepdim=*/true));
  result.positions = at::where(context.positions.lt(0), context.positions, last.sub(context.positions)).flip(1);
  return result;
}

Tensor run_backward(Layer& layer, const Tensor& x, const Context& context) {
  return run_layer(layer, x.flip(1), reversed(context), /*state=*/nullptr).flip(1);
}

}  // namespace

void BlockConfig::bind(Fields& fields) {
  fields.text("layer", layer, "registered layer; default: the name of the pattern entry");
  fields.choice("norm", norm, {"layer_norm", "rms_norm"}, "normalisation of the block");
  fields.choice("norm_position", norm_position, {"pre", "post", "none"},
                "before the layer, after the residual sum, or none");
  fields.number("norm_epsilon", norm_epsilon, {0.0, 1.0}, "added to the variance");
  fields.flag("residual", residual, "add the block's input to the layer's output");
  fields.number("dropout", dropout, {0.0, 0.999}, "share of the layer's output that training sets to zero");
  fields.choice("direction", direction, {"forward", "backward", "both"}, "which way the layer reads, in an encoder");
  fields.integer("output_width", output_width, {0, 1 << 20},
                 "width of the block's output; 0: the model's, twice that for both directions");
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
  const auto refuse = [&](const std::string& key, const std::string& sentence) {
    const ConfigValue* named = table.find(key);
    const SourceLocation& where = named ? named->where() : table.where();
    return absl::InvalidArgumentError(where.text() + ": [" + path + "] " + sentence);
  };
  auto block = std::make_unique<Block>();
  const BlockConfig& config = block->config_ = parted.block;
  block->name_ = site.name;
  const absl::StatusOr<const LayerEntry*> layer_entry = registry.layer(config.layer);
  if (!layer_entry.ok()) {
    const ConfigValue* named = table.find("layer");
    const SourceLocation& where = named ? named->where() : table.where();
    return absl::NotFoundError(where.text() + ": [" + path + "]: " + std::string(layer_entry.status().message()));
  }
  const bool both = config.direction == "both";
  block->output_width_ = config.output_width > 0 ? config.output_width : (both ? 2 : 1) * site.output_width;
  if (both && block->output_width_ % 2 != 0) {
    return refuse("output_width", "output_width = " + std::to_string(block->output_width_) +
                                      " must be even: each direction has half of it");
  }
  if (config.residual && block->output_width_ != site.width) {
    return refuse("residual", "reads a width of " + std::to_string(site.width) + " and gives one of " +
                                  std::to_string(block->output_width_) +
                                  ", which cannot be added: set residual = false, or output_width");
  }
  Site own = site;
  own.output_width = both ? block->output_width_ / 2 : block->output_width_;
  ASSIGN_OR_RETURN(block->layer_, (*layer_entry)->make(parted.layer, path, own));
  if (config.direction != "forward" && !block->layer_->traits().causal) {
    return refuse("direction", "direction = \"" + config.direction + "\" is for layers that read one way; \"" +
                                   config.layer + "\" sees both sides as it is");
  }
  if (block->layer_->traits().needs_memory && site.memory_width == 0) {
    return refuse("layer", "\"" + config.layer +
                               "\" attends to an encoder's output, and there is none here: give the model an encoder");
  }
  if (config.norm_position != "none") {
    block->norm_.emplace(config.norm == "rms_norm" ? Norm::Kind::kRmsNorm : Norm::Kind::kLayerNorm,
                         config.norm_position == "pre" ? site.width : block->output_width_, config.norm_epsilon);
    block->parameters_.adopt("norm", block->norm_->parameters());
  }
  block->parameters_.adopt("mixer", block->layer_->parameters());
  if (both) {
    ASSIGN_OR_RETURN(block->backward_, (*layer_entry)->make(parted.layer, path, own));
    block->parameters_.adopt("backward", block->backward_->parameters());
  }
  return block;
}

Tensor Block::forward(const Tensor& x, const Context& context, State* state, at::ScalarType compute_dtype) {
  const Tensor in = (norm_ && config_.norm_position == "pre" ? norm_->forward(x) : x).to(compute_dtype);
  Tensor y = config_.direction == "backward" ? run_backward(*layer_, in, context)
                                             : run_layer(*layer_, in, context, causal() ? state : nullptr);
  if (backward_) y = at::cat({y, run_backward(*backward_, in, context)}, -1);
  y = y.to(x.scalar_type());
  if (context.training && config_.dropout > 0.0) y = dropout(y, config_.dropout, context.draw, name_);
  if (config_.residual) y = x.add(y);
  return norm_ && config_.norm_position == "post" ? norm_->forward(y) : y;
}

bool Block::causal() const { return config_.direction == "forward" && layer_->traits().causal; }

bool Block::mixes_tokens() const {
  const Traits traits = layer_->traits();
  return !causal() || traits.state_growth != StateGrowth::kNone || traits.needs_memory;
}

State Block::initial_state(const StateSpec& spec) const { return causal() ? layer_->initial_state(spec) : State(); }

Cost Block::cost(const Workload& workload) const {
  Cost cost = layer_->cost(workload);
  if (backward_) cost += backward_->cost(workload);
  if (!causal()) cost.state_bytes = 0;
  return cost;
}

int64_t Block::mixer_parameters() const {
  return layer_->parameters().count() + (backward_ ? backward_->parameters().count() : 0);
}

int64_t Block::inactive_parameters() const {
  int64_t inactive = layer_->parameters().count() - layer_->active_parameters();
  if (backward_) inactive += backward_->parameters().count() - backward_->active_parameters();
  return inactive;
}

}  // namespace hippodrome
