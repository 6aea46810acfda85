#include <cmath>
#include <limits>

#include "architectures/huggingface/family.h"

namespace hippodrome::huggingface {
namespace mamba2_family_detail {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Keys {
  int64_t vocab_size = 32768, hidden_size = 4096, num_hidden_layers = 64;
  int64_t num_heads = 128, head_dim = 64, state_size = 128, n_groups = 8, conv_kernel = 4, chunk_size = 256;
  double expand = 2.0, layer_norm_epsilon = 1e-5;
  double time_step_min = 1e-3, time_step_max = 1e-1, time_step_floor = 1e-4;
  bool use_bias = false, use_conv_bias = true, tie_word_embeddings = false;
  std::string hidden_act = "silu";
  ConfigValue time_step_limit;  // a list of two; infinity where there is none

  void bind(Fields& fields) {
    fields.integer("vocab_size", vocab_size, {1, int64_t{1} << 31}, "V");
    fields.integer("hidden_size", hidden_size, {1, 1 << 20}, "D");
    fields.integer("num_hidden_layers", num_hidden_layers, {1, 1000}, "layers");
    fields.integer("num_heads", num_heads, {1, 1 << 16}, "H");
    fields.integer("head_dim", head_dim, {1, 1 << 16}, "hd");
    fields.integer("state_size", state_size, {1, 1 << 12}, "N");
    fields.integer("n_groups", n_groups, {1, 1 << 12}, "G");
    fields.integer("conv_kernel", conv_kernel, {1, 16}, "K");
    fields.integer("chunk_size", chunk_size, {1, 1 << 16}, "tokens of a chunk");
    fields.number("expand", expand, {0.0, 64.0}, "d_in / D");
    fields.number("layer_norm_epsilon", layer_norm_epsilon, {0.0, 1.0}, "added to the mean square, in the mixer too");
    fields.number("time_step_min", time_step_min, {1e-12, 1e3}, "smallest initial step");
    fields.number("time_step_max", time_step_max, {1e-12, 1e3}, "largest initial step");
    fields.number("time_step_floor", time_step_floor, {1e-12, 1e3}, "initial steps are at least this");
    fields.flag("use_bias", use_bias, "biases of the input and output projections");
    fields.flag("use_conv_bias", use_conv_bias, "bias of the convolution");
    fields.flag("tie_word_embeddings", tie_word_embeddings, "the head is the embedding");
    fields.choice("hidden_act", hidden_act, {"silu", "swish"}, "after the convolution and of the gate");
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
  const double inner = keys.expand * static_cast<double>(keys.hidden_size);
  if (inner != static_cast<double>(keys.num_heads * keys.head_dim)) {
    return absl::InvalidArgumentError(file + ": \"num_heads\" times \"head_dim\" is " +
                                      std::to_string(keys.num_heads * keys.head_dim) +
                                      " and must be \"expand\" times \"hidden_size\"");
  }
  ModelConfig config;
  config.pattern = {"mamba2"};
  config.repeats = keys.num_hidden_layers;
  config.width = keys.hidden_size;
  config.vocabulary = keys.vocab_size;
  config.block.norm = "rms_norm";
  config.block.norm_epsilon = keys.layer_norm_epsilon;
  config.tied = keys.tie_word_embeddings;
  ConfigValue table = block_table(file, {{"state", ConfigValue(keys.state_size)},
                                         {"head_size", ConfigValue(keys.head_dim)},
                                         {"groups", ConfigValue(keys.n_groups)},
                                         {"conv", ConfigValue(keys.conv_kernel)},
                                         {"expand", ConfigValue(keys.expand)},
                                         {"chunk", ConfigValue(keys.chunk_size)},
                                         {"conv_bias", ConfigValue(keys.use_conv_bias)},
                                         {"bias", ConfigValue(keys.use_bias)},
                                         {"dt_min", ConfigValue(keys.time_step_min)},
                                         {"dt_max", ConfigValue(keys.time_step_max)},
                                         {"dt_floor", ConfigValue(keys.time_step_floor)},
                                         {"gate_norm_epsilon", ConfigValue(keys.layer_norm_epsilon)}});
  if (limit.low > 0.0) table.set("dt_limit_low", ConfigValue(limit.low));
  if (limit.high < kInfinity) table.set("dt_limit_high", ConfigValue(limit.high));
  config.blocks.set("mamba2", std::move(table));
  return config;
}

absl::StatusOr<Json> write(const ResolvedModel& model) {
  Keys keys;
  keys.vocab_size = model.size("embedding.weight", 0);
  keys.hidden_size = model.config.width;
  keys.num_hidden_layers = model.layers_of(1);
  keys.num_heads = model.size("blocks.0.mixer.A_log", 0);
  keys.head_dim = model.integer(0, "head_size");
  keys.state_size = model.integer(0, "state");
  keys.n_groups = model.integer(0, "groups");
  keys.conv_kernel = model.integer(0, "conv");
  keys.chunk_size = model.integer(0, "chunk");
  keys.layer_norm_epsilon = model.config.block.norm_epsilon;
  keys.time_step_min = model.number(0, "dt_min");
  keys.time_step_max = model.number(0, "dt_max");
  keys.time_step_floor = model.number(0, "dt_floor");
  keys.use_bias = model.flag(0, "bias");
  keys.use_conv_bias = model.flag(0, "conv_bias");
  keys.tie_word_embeddings = model.config.tied;
  const int64_t inner = keys.num_heads * keys.head_dim;
  if (inner % keys.hidden_size != 0) {
    return absl::UnimplementedError("mamba2 needs an inner width that is a multiple of the model's; here they are " +
                                    std::to_string(inner) + " and " + std::to_string(keys.hidden_size));
  }
  Json json = write_keys(keys);
  json["expand"] = inner / keys.hidden_size;
  const double low = model.number(0, "dt_limit_low"), high = model.number(0, "dt_limit_high");
  json.erase("time_step_limit");  // what is missing is no limit, in both dialects
  if (low > 0.0 || std::isfinite(high)) json["time_step_limit"] = {low, json_of(ConfigValue(high))};
  return json;
}

}  // namespace
}  // namespace mamba2_family_detail

Family mamba2_family() {
  Family family{.name = "mamba2",
                .architecture = "Mamba2ForCausalLM",
                .prefix = "backbone.",
                .layers = "backbone.layers.",
                .blocks_per_layer = 1};
  family.model_rules = {{"embedding.weight", {"backbone.embeddings.weight"}},
                        {"final_norm.weight", {"backbone.norm_f.weight"}},
                        {"head.weight", {"lm_head.weight"}}};
  family.block_rules["mamba2"] = {{"norm.weight", {"norm.weight"}},
                                  {"mixer.in_proj.weight", {"mixer.in_proj.weight"}},
                                  {"mixer.in_proj.bias", {"mixer.in_proj.bias"}},
                                  {"mixer.conv1d.weight", {"mixer.conv1d.weight"}, TensorRule::Form::kMiddleAxis},
                                  {"mixer.conv1d.bias", {"mixer.conv1d.bias"}},
                                  {"mixer.dt_bias", {"mixer.dt_bias"}},
                                  {"mixer.A_log", {"mixer.A_log"}},
                                  {"mixer.D", {"mixer.D"}},
                                  {"mixer.norm.weight", {"mixer.norm.weight"}},
                                  {"mixer.out_proj.weight", {"mixer.out_proj.weight"}},
                                  {"mixer.out_proj.bias", {"mixer.out_proj.bias"}}};
  family.aliases = {{"backbone.embedding.weight", "backbone.embeddings.weight"}};
  family.read = mamba2_family_detail::read;
  family.write = mamba2_family_detail::write;
  return family;
}

}  // namespace hippodrome::huggingface
