#include <algorithm>

#include "architectures/huggingface/family.h"

namespace hippodrome::huggingface {
namespace mamba_family_detail {
namespace {

struct Keys {
  int64_t vocab_size = 50280, hidden_size = 768, num_hidden_layers = 32, state_size = 16, conv_kernel = 4;
  int64_t intermediate_size = 0;  // 0: expand · hidden_size
  int64_t time_step_rank = 0;     // 0: hidden_size / 16, rounded up
  double expand = 2.0, layer_norm_epsilon = 1e-5;
  double time_step_min = 1e-3, time_step_max = 1e-1, time_step_floor = 1e-4;
  bool use_bias = false, use_conv_bias = true, tie_word_embeddings = true;
  std::string hidden_act = "silu";

  void bind(Fields& fields) {
    fields.integer("vocab_size", vocab_size, {1, int64_t{1} << 31}, "V");
    fields.integer("hidden_size", hidden_size, {1, 1 << 20}, "D");
    fields.integer("num_hidden_layers", num_hidden_layers, {1, 1000}, "layers");
    fields.integer("state_size", state_size, {1, 256}, "N");
    fields.integer("conv_kernel", conv_kernel, {1, 16}, "K");
    fields.integer("intermediate_size", intermediate_size, {0, 1 << 24}, "d_in; 0: expand · D");
    fields.integer("time_step_rank", time_step_rank, {0, 1 << 16}, "R; 0: D / 16, rounded up");
    fields.number("expand", expand, {0.0, 64.0}, "d_in / D");
    fields.number("layer_norm_epsilon", layer_norm_epsilon, {0.0, 1.0}, "added to the mean square");
    fields.number("time_step_min", time_step_min, {1e-12, 1e3}, "smallest initial step");
    fields.number("time_step_max", time_step_max, {1e-12, 1e3}, "largest initial step");
    fields.number("time_step_floor", time_step_floor, {1e-12, 1e3}, "initial steps are at least this");
    fields.flag("use_bias", use_bias, "biases of the input and output projections");
    fields.flag("use_conv_bias", use_conv_bias, "bias of the convolution");
    fields.flag("tie_word_embeddings", tie_word_embeddings, "the head is the embedding");
    fields.choice("hidden_act", hidden_act, {"silu", "swish"}, "after the convolution and of the gate");
  }
};

absl::StatusOr<ModelConfig> read(const Json& json, const std::string& file) {
  ASSIGN_OR_RETURN(const Keys keys, read_keys(json, file, Keys()));
  ModelConfig config;
  config.pattern = {"mamba"};
  config.repeats = keys.num_hidden_layers;
  config.width = keys.hidden_size;
  config.vocabulary = keys.vocab_size;
  config.block.norm = "rms_norm";
  config.block.norm_epsilon = keys.layer_norm_epsilon;
  config.tied = keys.tie_word_embeddings;
  const double expand = keys.intermediate_size > 0
                            ? static_cast<double>(keys.intermediate_size) / static_cast<double>(keys.hidden_size)
                            : keys.expand;
  const int64_t rank = keys.time_step_rank > 0 ? keys.time_step_rank : (keys.hidden_size + 15) / 16;
  config.blocks.set("mamba", block_table(file, {{"state", ConfigValue(keys.state_size)},
                                                {"conv", ConfigValue(keys.conv_kernel)},
                                                {"expand", ConfigValue(expand)},
                                                {"dt_rank", ConfigValue(rank)},
                                                {"dt_min", ConfigValue(keys.time_step_min)},
                                                {"dt_max", ConfigValue(keys.time_step_max)},
                                                {"dt_floor", ConfigValue(keys.time_step_floor)},
                                                {"conv_bias", ConfigValue(keys.use_conv_bias)},
                                                {"bias", ConfigValue(keys.use_bias)}}));
  return config;
}

absl::StatusOr<Json> write(const ResolvedModel& model) {
  Keys keys;
  keys.vocab_size = model.size("embedding.weight", 0);
  keys.hidden_size = model.config.width;
  keys.num_hidden_layers = model.layers_of(1);
  keys.state_size = model.integer(0, "state");
  keys.conv_kernel = model.integer(0, "conv");
  keys.intermediate_size = model.size("blocks.0.mixer.out_proj.weight", 1);
  keys.time_step_rank = model.size("blocks.0.mixer.dt_proj.weight", 1);
  keys.layer_norm_epsilon = model.config.block.norm_epsilon;
  keys.time_step_min = model.number(0, "dt_min");
  keys.time_step_max = model.number(0, "dt_max");
  keys.time_step_floor = model.number(0, "dt_floor");
  keys.use_bias = model.flag(0, "bias");
  keys.use_conv_bias = model.flag(0, "conv_bias");
  keys.tie_word_embeddings = model.config.tied;
  Json json = write_keys(keys);
  // There it is an integer; intermediate_size is what counts.
  json["expand"] = std::max<int64_t>(1, keys.intermediate_size / keys.hidden_size);
  return json;
}

}  // namespace
}  // namespace mamba_family_detail

Family mamba_family() {
  Family family{.name = "mamba",
                .architecture = "MambaForCausalLM",
                .prefix = "backbone.",
                .layers = "backbone.layers.",
                .blocks_per_layer = 1};
  family.model_rules = {{"embedding.weight", {"backbone.embeddings.weight"}},
                        {"final_norm.weight", {"backbone.norm_f.weight"}},
                        {"head.weight", {"lm_head.weight"}}};
  family.block_rules["mamba"] = {{"norm.weight", {"norm.weight"}},
                                 {"mixer.in_proj.weight", {"mixer.in_proj.weight"}},
                                 {"mixer.in_proj.bias", {"mixer.in_proj.bias"}},
                                 {"mixer.conv1d.weight", {"mixer.conv1d.weight"}, TensorRule::Form::kMiddleAxis},
                                 {"mixer.conv1d.bias", {"mixer.conv1d.bias"}},
                                 {"mixer.x_proj.weight", {"mixer.x_proj.weight"}},
                                 {"mixer.dt_proj.weight", {"mixer.dt_proj.weight"}},
                                 {"mixer.dt_proj.bias", {"mixer.dt_proj.bias"}},
                                 {"mixer.A_log", {"mixer.A_log"}},
                                 {"mixer.D", {"mixer.D"}},
                                 {"mixer.out_proj.weight", {"mixer.out_proj.weight"}},
                                 {"mixer.out_proj.bias", {"mixer.out_proj.bias"}}};
  // The authors' own files.
  family.aliases = {{"backbone.embedding.weight", "backbone.embeddings.weight"}};
  family.read = mamba_family_detail::read;
  family.write = mamba_family_detail::write;
  return family;
}

}  // namespace hippodrome::huggingface
