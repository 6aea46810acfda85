#include <algorithm>
#include <set>

#include "architectures/huggingface/family.h"
#include "core/base/text.h"

namespace hippodrome::huggingface {
namespace families_detail {
namespace {

std::vector<std::string> names() {
  std::vector<std::string> result;
  for (const Family& family : families()) result.push_back(family.name);
  return result;
}

}  // namespace
}  // namespace families_detail

const std::vector<Family>& families() {
  static const std::vector<Family> list = {gpt2_family(),  llama_family(),  mistral_family(), mixtral_family(),
                                           mamba_family(), mamba2_family(), rwkv_family(),    jamba_family()};
  return list;
}

absl::StatusOr<const Family*> family_named(const Json& json, const std::string& file) {
  const auto type = json.find("model_type");
  const std::vector<std::string> known = families_detail::names();
  if (type == json.end() || !type->is_string()) {
    return absl::InvalidArgumentError(file + ": \"model_type\" is missing; it must be one of " + join(known, ", "));
  }
  for (const Family& family : families()) {
    if (*type == family.name) return &family;
  }
  return unsupported(file, "\"model_type\" is " + type->dump(-1, ' ', /*ensure_ascii=*/true).substr(0, 80) +
                               ", and models of that family are not computed here; known are " + join(known, ", "));
}

absl::StatusOr<const Family*> family_resembling(const ResolvedModel& model) {
  std::set<std::string> layers;
  for (const ResolvedBlock& block : model.blocks) layers.insert(block.block.layer);
  const auto has = [&](const char* layer) { return layers.count(layer) > 0; };
  std::string name;
  if (has("mamba2")) {
    name = "mamba2";
  } else if (has("rwkv_time_mix") || has("rwkv_channel_mix")) {
    name = "rwkv";
  } else if (has("mamba")) {
    name = layers.size() == 1 ? "mamba" : "jamba";
  } else if (has("moe")) {
    name = "mixtral";
  } else if (has("attention")) {
    const int64_t attention = model.first("attention");
    const int64_t heads = std::max<int64_t>(1, model.integer(attention, "heads"));
    // Llama's own config refuses a width that its heads do not divide; Mistral's, else the same model, does not.
    const bool mistral = model.integer(attention, "window") > 0 || model.config.width % heads != 0;
    name = model.config.positions == "learned" ? "gpt2" : mistral ? "mistral" : "llama";
  }
  for (const Family& family : families()) {
    if (family.name == name) return &family;
  }
  return absl::UnimplementedError("no family of Hugging Face's computes the layers " +
                                  join({layers.begin(), layers.end()}, ", ") + "; known are " +
                                  join(families_detail::names(), ", "));
}

ConfigValue block_table(const std::string& file, std::vector<std::pair<std::string, ConfigValue>> keys) {
  return ConfigValue(ConfigValue::Table(std::move(keys)), SourceLocation{file, 0});
}

}  // namespace hippodrome::huggingface
