#include "architectures/huggingface/comparison.h"

#include <algorithm>
#include <array>
#include <set>

namespace hippodrome::huggingface {
namespace comparison_detail {
namespace {

// Everything else counts, so that a key to come is a difference until someone thinks about it.
constexpr std::array<std::string_view, 16> kNotComputation = {
    "init",           "kernel",   "dt_min",   "dt_max", "dt_floor", "balance_loss", "chunk",  // values, speed, training
    "expansion",      "hidden",   "multiple", "expand", "dt_rank",  "kv_heads",     "head_size",  // shapes
    "embedding_init", "head_init"};

bool counts(std::string_view key) {
  return std::find(kNotComputation.begin(), kNotComputation.end(), key) == kNotComputation.end();
}

// 2 and 2.0 are the same.
bool same_value(const ConfigValue& a, const ConfigValue& b) {
  const auto number = [](const ConfigValue& value, double& out) {
    if (value.integer()) out = static_cast<double>(*value.integer());
    if (value.real()) out = *value.real();
    return value.integer() || value.real();
  };
  double x = 0.0, y = 0.0;
  if (number(a, x) && number(b, y)) return x == y;
  return a.json() == b.json();
}

void compare_tables(const ConfigValue& a, const ConfigValue& b, const std::string& where,
                    std::vector<std::string>& out) {
  for (const auto& [key, value] : *a.table()) {
    if (!counts(key)) continue;
    const ConfigValue* other = b.find(key);
    if (!other || !same_value(value, *other)) {
      out.push_back(where + key + " is " + value.json() + ", not " + (other ? other->json() : "there"));
    }
  }
}

// The keys of a model that say what it computes, its blocks aside.
ConfigValue model_keys(const ModelConfig& config) {
  ConfigValue keys = write_config(config);
  for (const char* key : {"pattern", "repeats", "blocks", "norm", "norm_position", "norm_epsilon"}) keys.erase(key);
  if (config.positions != "learned") keys.erase("max_positions");
  // What remains of the model's own norm settings are those of the norms outside the blocks.
  keys.set("final_norm_epsilon",
           ConfigValue(config.final_norm_epsilon > 0.0 ? config.final_norm_epsilon : config.block.norm_epsilon));
  if (!config.final_norm) keys.erase("final_norm_epsilon");
  if (config.final_norm || config.embedding_norm) keys.set("norm", ConfigValue(config.block.norm));
  if (config.embedding_norm) keys.set("norm_epsilon", ConfigValue(config.block.norm_epsilon));
  return keys;
}

}  // namespace
}  // namespace comparison_detail

std::vector<std::string> differences(const ResolvedModel& a, const ResolvedModel& b) {
  using namespace comparison_detail;
  std::vector<std::string> out;
  compare_tables(model_keys(a.config), model_keys(b.config), "", out);
  if (a.blocks.size() != b.blocks.size()) {
    out.push_back("there are " + std::to_string(a.blocks.size()) + " blocks, not " + std::to_string(b.blocks.size()));
    return out;
  }
  for (size_t i = 0; i < a.blocks.size(); ++i) {
    const std::string where = "blocks." + std::to_string(i) + ": ";
    ConfigValue block_a = write_config(a.blocks[i].block), block_b = write_config(b.blocks[i].block);
    // A norm that is not there has no kind.
    if (a.blocks[i].block.norm_position == "none")
      block_a = ConfigValue(ConfigValue::Table{{"norm_position", ConfigValue(std::string("none"))}});
    compare_tables(block_a, block_b, where, out);
    if (a.blocks[i].block.layer == b.blocks[i].block.layer)
      compare_tables(a.blocks[i].keys, b.blocks[i].keys, where, out);
  }
  std::set<std::string> shapes;
  const auto shape_of = [](const Parameter& parameter) {
    std::string text = parameter.name + " [";
    for (const int64_t size : parameter.value.sizes()) text += (text.back() == '[' ? "" : ", ") + std::to_string(size);
    return text + "]";
  };
  for (const ParameterPtr& parameter : b.model->parameters().list()) shapes.insert(shape_of(*parameter));
  for (const ParameterPtr& parameter : a.model->parameters().list()) {
    if (shapes.erase(shape_of(*parameter)) == 0)
      out.push_back("the parameter " + shape_of(*parameter) + " has no place");
  }
  for (const std::string& shape : shapes) out.push_back("the parameter " + shape + " is missing");
  return out;
}

}  // namespace hippodrome::huggingface
