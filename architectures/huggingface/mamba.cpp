#include <algorithm>

#include "architectures/huggingface/mamba.h"

namespace hippodrome::huggingface {
namespace mamba_family_detail {
namespace {

struct Keys {
  MambaKeys common;
  int64_t state_size = 16;
  int64_t intermediate_size = 0;  // 0: expand · hidden_size
  int64_t time_step_rank = 0;     // 0: hidden_size / 16, rounded up

  void bind(Fields& fields) {
    common.bind(fields);
    fields.integer("state_size", state_size, {1, 256}, "N");
    fields.integer("intermediate_size", intermediate_size, {0, 1 << 24}, "d_in; 0: expand · D");
    fields.integer("time_step_rank", time_step_rank, {0, 1 << 16}, "R; 0: D / 16, rounded up");
  }
};

absl::StatusOr<ModelConfig> read(const Json& json, const std::string& file) {
  ASSIGN_OR_RETURN(const Keys keys, read_keys(json, file, Keys()));
  const MambaKeys& common = keys.common;
  const double expand = keys.intermediate_size > 0
                            ? static_cast<double>(keys.intermediate_size) / static_cast<double>(common.hidden_size)
                            : common.expand;
  const int64_t rank = keys.time_step_rank > 0 ? keys.time_step_rank : (common.hidden_size + 15) / 16;
  ModelConfig config = mamba_model(common, "mamba");
  config.blocks.set("mamba", block_table(file, {{"state", ConfigValue(keys.state_size)},
                                                {"conv", ConfigValue(common.conv_kernel)},
                                                {"expand", ConfigValue(expand)},
                                                {"dt_rank", ConfigValue(rank)},
                                                {"dt_min", ConfigValue(common.time_step_min)},
                                                {"dt_max", ConfigValue(common.time_step_max)},
                                                {"dt_floor", ConfigValue(common.time_step_floor)},
                                                {"conv_bias", ConfigValue(common.use_conv_bias)},
                                                {"bias", ConfigValue(common.use_bias)}}));
  return config;
}

absl::StatusOr<Json> write(const ResolvedModel& model) {
  Keys keys{.common = mamba_keys(model)};
  keys.state_size = model.integer(0, "state");
  keys.intermediate_size = model.size("blocks.0.mixer.out_proj.weight", 1);
  keys.time_step_rank = model.size("blocks.0.mixer.dt_proj.weight", 1);
  Json json = write_keys(keys);
  // There it is an integer; intermediate_size is what counts.
  json["expand"] = std::max<int64_t>(1, keys.intermediate_size / keys.common.hidden_size);
  return json;
}

}  // namespace
}  // namespace mamba_family_detail

void MambaKeys::bind(Fields& fields) {
  fields.integer("vocab_size", vocab_size, {1, int64_t{1} << 31}, "V");
  fields.integer("hidden_size", hidden_size, {1, 1 << 20}, "D");
  fields.integer("num_hidden_layers", num_hidden_layers, {1, 1000}, "layers");
  fields.integer("conv_kernel", conv_kernel, {1, 16}, "K");
  fields.number("expand", expand, {0.0, 64.0}, "d_in / D");
  fields.number("layer_norm_epsilon", layer_norm_epsilon, {0.0, 1.0},
                "added to the mean square, in Mamba-2's mixer too");
  fields.number("time_step_min", time_step_min, {1e-12, 1e3}, "smallest initial step");
  fields.number("time_step_max", time_step_max, {1e-12, 1e3}, "largest initial step");
  fields.number("time_step_floor", time_step_floor, {1e-12, 1e3}, "initial steps are at least this");
  fields.flag("use_bias", use_bias, "biases of the input and output projections");
  fields.flag("use_conv_bias", use_conv_bias, "bias of the convolution");
  fields.flag("tie_word_embeddings", tie_word_embeddings, "the head is the embedding");
  fields.choice("hidden_act", hidden_act, {"silu", "swish"}, "after the convolution and of the gate");
}

ModelConfig mamba_model(const MambaKeys& keys, const std::string& layer) {
  ModelConfig config;
  config.pattern = {layer};
  config.repeats = keys.num_hidden_layers;
  config.width = keys.hidden_size;
  config.vocabulary = keys.vocab_size;
  config.block.norm = "rms_norm";
  config.block.norm_epsilon = keys.layer_norm_epsilon;
  config.tied = keys.tie_word_embeddings;
  return config;
}

MambaKeys mamba_keys(const ResolvedModel& model) {
  MambaKeys keys;
  keys.vocab_size = model.size("embedding.weight", 0);
  keys.hidden_size = model.config.width;
  keys.num_hidden_layers = model.layers_of(1);
  keys.conv_kernel = model.integer(0, "conv");
  keys.layer_norm_epsilon = model.config.block.norm_epsilon;
  keys.time_step_min = model.number(0, "dt_min");
  keys.time_step_max = model.number(0, "dt_max");
  keys.time_step_floor = model.number(0, "dt_floor");
  keys.use_bias = model.flag(0, "bias");
  keys.use_conv_bias = model.flag(0, "conv_bias");
  keys.tie_word_embeddings = model.config.tied;
  return keys;
}

Family mamba_like_family(const std::string& name, const std::string& architecture,
                         const std::vector<std::string>& own_tensors) {
  Family family{.name = name,
                .architecture = architecture,
                .prefix = "backbone.",
                .layers = "backbone.layers.",
                .blocks_per_layer = 1};
  family.model_rules = {{"embedding.weight", {"backbone.embeddings.weight"}},
                        {"final_norm.weight", {"backbone.norm_f.weight"}},
                        {"head.weight", {"lm_head.weight"}}};
  TensorRules& rules = family.block_rules[name];
  rules = {{"norm.weight", {"norm.weight"}},
           {"mixer.in_proj.weight", {"mixer.in_proj.weight"}},
           {"mixer.in_proj.bias", {"mixer.in_proj.bias"}},
           {"mixer.conv1d.weight", {"mixer.conv1d.weight"}, TensorRule::Form::kMiddleAxis},
           {"mixer.conv1d.bias", {"mixer.conv1d.bias"}},
           {"mixer.A_log", {"mixer.A_log"}},
           {"mixer.D", {"mixer.D"}},
           {"mixer.out_proj.weight", {"mixer.out_proj.weight"}},
           {"mixer.out_proj.bias", {"mixer.out_proj.bias"}}};
  for (const std::string& tensor : own_tensors) rules.push_back({tensor, {tensor}});
  // The authors' own files.
  family.aliases = {{"backbone.embedding.weight", "backbone.embeddings.weight"}};
  return family;
}

Family mamba_family() {
  Family family = mamba_like_family("mamba", "MambaForCausalLM",
                                    {"mixer.x_proj.weight", "mixer.dt_proj.weight", "mixer.dt_proj.bias"});
  family.read = mamba_family_detail::read;
  family.write = mamba_family_detail::write;
  return family;
}

}  // namespace hippodrome::huggingface
