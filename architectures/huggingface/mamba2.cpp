#include <cmath>
#include <limits>

#include "architectures/huggingface/mamba.h"

namespace hippodrome::huggingface {
namespace mamba2_family_detail {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Keys {
  MambaKeys common{.vocab_size = 32768, .hidden_size = 4096, .num_hidden_layers = 64, .tie_word_embeddings = false};
  int64_t num_heads = 128, head_dim = 64, state_size = 128, n_groups = 8, chunk_size = 256;
  ConfigValue time_step_limit = {};  // a list of two; infinity where there is none

  void bind(Fields& fields) {
    common.bind(fields);
    fields.integer("num_heads", num_heads, {1, 1 << 16}, "H");
    fields.integer("head_dim", head_dim, {1, 1 << 16}, "hd");
    fields.integer("state_size", state_size, {1, 1 << 12}, "N");
    fields.integer("n_groups", n_groups, {1, 1 << 12}, "G");
    fields.integer("chunk_size", chunk_size, {1, 1 << 16}, "tokens of a chunk");
    fields.tree("time_step_limit", time_step_limit, "steps are kept between these two");
  }
};

struct Limit {
  double low = 0.0, high = kInfinity;
};

absl::StatusOr<Limit> limit_of(const ConfigValue& value, const std::string& file) {
  const ConfigValue::List* list = value.list();
  if (list == nullptr && value.table() != nullptr && value.table()->empty()) return Limit();
  const auto number = [](const ConfigValue& item) {
    return item.real() ? *item.real() : item.integer() ? static_cast<double>(*item.integer()) : std::nan("");
  };
  Limit limit;
  if (list != nullptr && list->size() == 2) limit = {number((*list)[0]), number((*list)[1])};
  if (list == nullptr || list->size() != 2 || !(limit.low >= 0.0 && limit.high > limit.low)) {
    return absl::InvalidArgumentError(file + ": \"time_step_limit\" must be a list of two numbers, the second larger");
  }
  return limit;
}

absl::StatusOr<ModelConfig> read(const Json& json, const std::string& file) {
  ASSIGN_OR_RETURN(const Keys keys, read_keys(json, file, Keys()));
  ASSIGN_OR_RETURN(const Limit limit, limit_of(keys.time_step_limit, file));
  const MambaKeys& common = keys.common;
  const double inner = common.expand * static_cast<double>(common.hidden_size);
  if (inner != static_cast<double>(keys.num_heads * keys.head_dim)) {
    return absl::InvalidArgumentError(file + ": \"num_heads\" times \"head_dim\" is " +
                                      std::to_string(keys.num_heads * keys.head_dim) +
                                      " and must be \"expand\" times \"hidden_size\"");
  }
  ModelConfig config = mamba_model(common, "mamba2");
  ConfigValue table = block_table(file, {{"state", ConfigValue(keys.state_size)},
                                         {"head_size", ConfigValue(keys.head_dim)},
                                         {"groups", ConfigValue(keys.n_groups)},
                                         {"conv", ConfigValue(common.conv_kernel)},
                                         {"expand", ConfigValue(common.expand)},
                                         {"chunk", ConfigValue(keys.chunk_size)},
                                         {"conv_bias", ConfigValue(common.use_conv_bias)},
                                         {"bias", ConfigValue(common.use_bias)},
                                         {"dt_min", ConfigValue(common.time_step_min)},
                                         {"dt_max", ConfigValue(common.time_step_max)},
                                         {"dt_floor", ConfigValue(common.time_step_floor)},
                                         {"gate_norm_epsilon", ConfigValue(common.layer_norm_epsilon)}});
  if (limit.low > 0.0) table.set("dt_limit_low", ConfigValue(limit.low));
  if (limit.high < kInfinity) table.set("dt_limit_high", ConfigValue(limit.high));
  config.blocks.set("mamba2", std::move(table));
  return config;
}

absl::StatusOr<Json> write(const ResolvedModel& model) {
  Keys keys{.common = mamba_keys(model)};
  keys.num_heads = model.size("blocks.0.mixer.A_log", 0);
  keys.head_dim = model.integer(0, "head_size");
  keys.state_size = model.integer(0, "state");
  keys.n_groups = model.integer(0, "groups");
  keys.chunk_size = model.integer(0, "chunk");
  const int64_t inner = keys.num_heads * keys.head_dim;
  if (inner % keys.common.hidden_size != 0) {
    return absl::UnimplementedError("mamba2 needs an inner width that is a multiple of the model's; here they are " +
                                    std::to_string(inner) + " and " + std::to_string(keys.common.hidden_size));
  }
  Json json = write_keys(keys);
  json["expand"] = inner / keys.common.hidden_size;
  const double low = model.number(0, "dt_limit_low"), high = model.number(0, "dt_limit_high");
  json.erase("time_step_limit");  // what is missing is no limit, in both dialects
  if (low > 0.0 || std::isfinite(high)) json["time_step_limit"] = {low, json_of(ConfigValue(high))};
  return json;
}

}  // namespace
}  // namespace mamba2_family_detail

Family mamba2_family() {
  Family family = mamba_like_family("mamba2", "Mamba2ForCausalLM", {"mixer.dt_bias", "mixer.norm.weight"});
  family.read = mamba2_family_detail::read;
  family.write = mamba2_family_detail::write;
  return family;
}

}  // namespace hippodrome::huggingface
