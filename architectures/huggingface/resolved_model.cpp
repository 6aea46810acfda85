#include "architectures/huggingface/family.h"

namespace hippodrome::huggingface {
namespace resolved_model_detail {
namespace {

const ConfigValue* key_of(const std::vector<ResolvedBlock>& blocks, int64_t block, const std::string& key) {
  if (block < 0 || block >= static_cast<int64_t>(blocks.size())) return nullptr;
  return blocks[static_cast<size_t>(block)].keys.find(key);
}

}  // namespace
}  // namespace resolved_model_detail

int64_t ResolvedModel::size(const std::string& parameter, int64_t axis) const {
  const ParameterPtr found = model->parameters().find(parameter);
  return found && axis < found->value.dim() ? found->value.size(axis) : 0;
}

int64_t ResolvedModel::first(const std::string& layer) const {
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (blocks[i].block.layer == layer) return static_cast<int64_t>(i);
  }
  return -1;
}

int64_t ResolvedModel::integer(int64_t block, const std::string& key) const {
  const ConfigValue* value = resolved_model_detail::key_of(blocks, block, key);
  return value && value->integer() ? *value->integer() : 0;
}

double ResolvedModel::number(int64_t block, const std::string& key) const {
  const ConfigValue* value = resolved_model_detail::key_of(blocks, block, key);
  if (value && value->integer()) return static_cast<double>(*value->integer());
  return value && value->real() ? *value->real() : 0.0;
}

std::string ResolvedModel::text(int64_t block, const std::string& key) const {
  const ConfigValue* value = resolved_model_detail::key_of(blocks, block, key);
  return value && value->string() ? *value->string() : "";
}

bool ResolvedModel::flag(int64_t block, const std::string& key) const {
  const ConfigValue* value = resolved_model_detail::key_of(blocks, block, key);
  return value && value->boolean() && *value->boolean();
}

absl::StatusOr<ResolvedModel> resolve(const ModelConfig& config, LanguageModel& model, const Registry& registry) {
  static const ConfigValue no_keys;
  ResolvedModel resolved{config, {}, &model};
  for (int64_t repeat = 0; repeat < config.repeats; ++repeat) {
    for (const std::string& entry : config.pattern) {
      const ConfigValue* table = config.blocks.find(entry);
      ASSIGN_OR_RETURN(BlockTable parted,
                       part_block_table(entry, table ? *table : no_keys, config.block, "blocks." + entry));
      ASSIGN_OR_RETURN(const LayerEntry* layer, registry.layer(parted.block.layer));
      WriteFields defaults;
      layer->describe(defaults);
      defaults.result.merge(parted.layer);
      resolved.blocks.push_back({std::move(parted.block), std::move(defaults.result)});
    }
  }
  return resolved;
}

}  // namespace hippodrome::huggingface
