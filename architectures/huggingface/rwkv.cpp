#include "architectures/huggingface/family.h"

namespace hippodrome::huggingface {
namespace rwkv_family_detail {
namespace {

// `rescale_every` is not among them: halving the residual is a trick for 16-bit inference that changes the weight of
// the norms' epsilon, and nothing is halved here.
struct Keys {
  int64_t vocab_size = 50277, hidden_size = 4096, num_hidden_layers = 32;
  int64_t attention_hidden_size = 0, intermediate_size = 0;  // 0: hidden_size; 4 · hidden_size
  double layer_norm_epsilon = 1e-5;
  bool tie_word_embeddings = false;

  void bind(Fields& fields) {
    fields.integer("vocab_size", vocab_size, {1, int64_t{1} << 31}, "V");
    fields.integer("hidden_size", hidden_size, {1, 1 << 20}, "D");
    fields.integer("num_hidden_layers", num_hidden_layers, {1, 1000}, "layers");
    fields.integer("attention_hidden_size", attention_hidden_size, {0, 1 << 20}, "channels of WKV; 0: D");
    fields.integer("intermediate_size", intermediate_size, {0, 1 << 24}, "F; 0: 4 D");
    fields.number("layer_norm_epsilon", layer_norm_epsilon, {0.0, 1.0}, "added to the variance");
    fields.flag("tie_word_embeddings", tie_word_embeddings, "the head is the embedding");
  }
};

// The last norm's, whatever the config says of the others.
constexpr double kFinalNormEpsilon = 1e-5;

absl::StatusOr<ModelConfig> read(const Json& json, const std::string& file) {
  ASSIGN_OR_RETURN(const Keys keys, read_keys(json, file, Keys()));
  if (keys.attention_hidden_size != 0 && keys.attention_hidden_size != keys.hidden_size) {
    return unsupported(file, "\"attention_hidden_size\" = " + std::to_string(keys.attention_hidden_size) +
                                 " is not computed here where \"hidden_size\" is " + std::to_string(keys.hidden_size));
  }
  ModelConfig config;
  config.pattern = {"rwkv_time_mix", "rwkv_channel_mix"};
  config.repeats = keys.num_hidden_layers;
  config.width = keys.hidden_size;
  config.vocabulary = keys.vocab_size;
  config.block.norm = "layer_norm";
  config.block.norm_epsilon = keys.layer_norm_epsilon;
  config.embedding_norm = true;
  config.final_norm_epsilon = kFinalNormEpsilon;
  config.tied = keys.tie_word_embeddings;
  config.embedding_init = "uniform";
  config.head_init = "orthogonal";
  const int64_t hidden = keys.intermediate_size > 0 ? keys.intermediate_size : 4 * keys.hidden_size;
  config.blocks.set(
      "rwkv_channel_mix",
      block_table(file,
                  {{"expansion", ConfigValue(static_cast<double>(hidden) / static_cast<double>(keys.hidden_size))}}));
  return config;
}

absl::StatusOr<Json> write(const ResolvedModel& model) {
  const int64_t channel_mix = model.first("rwkv_channel_mix");
  Keys keys;
  keys.vocab_size = model.size("embedding.weight", 0);
  keys.hidden_size = model.config.width;
  keys.attention_hidden_size = model.config.width;
  keys.num_hidden_layers = model.layers_of(2);
  keys.intermediate_size = model.size("blocks." + std::to_string(channel_mix) + ".mixer.key.weight", 0);
  keys.layer_norm_epsilon = model.config.block.norm_epsilon;
  keys.tie_word_embeddings = model.config.tied;
  Json json = write_keys(keys);
  json["rescale_every"] = 0;
  return json;
}

}  // namespace
}  // namespace rwkv_family_detail

Family rwkv_family() {
  constexpr auto kLeadingAxes = TensorRule::Form::kLeadingAxes;
  Family family{.name = "rwkv", .architecture = "RwkvForCausalLM", .prefix = "rwkv.", .layers = "rwkv.blocks."};
  family.model_rules = {{"embedding.weight", {"rwkv.embeddings.weight"}},
                        {"embedding_norm.weight", {"rwkv.blocks.0.pre_ln.weight"}},
                        {"embedding_norm.bias", {"rwkv.blocks.0.pre_ln.bias"}},
                        {"final_norm.weight", {"rwkv.ln_out.weight"}},
                        {"final_norm.bias", {"rwkv.ln_out.bias"}},
                        {"head.weight", {"head.weight"}}};
  family.block_rules["rwkv_time_mix"] = {{"norm.weight", {"ln1.weight"}},
                                         {"norm.bias", {"ln1.bias"}},
                                         {"mixer.time_decay", {"attention.time_decay"}},
                                         {"mixer.time_first", {"attention.time_first"}},
                                         {"mixer.time_mix_k", {"attention.time_mix_key"}, kLeadingAxes},
                                         {"mixer.time_mix_v", {"attention.time_mix_value"}, kLeadingAxes},
                                         {"mixer.time_mix_r", {"attention.time_mix_receptance"}, kLeadingAxes},
                                         {"mixer.key.weight", {"attention.key.weight"}},
                                         {"mixer.value.weight", {"attention.value.weight"}},
                                         {"mixer.receptance.weight", {"attention.receptance.weight"}},
                                         {"mixer.output.weight", {"attention.output.weight"}}};
  family.block_rules["rwkv_channel_mix"] = {{"norm.weight", {"ln2.weight"}},
                                            {"norm.bias", {"ln2.bias"}},
                                            {"mixer.time_mix_k", {"feed_forward.time_mix_key"}, kLeadingAxes},
                                            {"mixer.time_mix_r", {"feed_forward.time_mix_receptance"}, kLeadingAxes},
                                            {"mixer.key.weight", {"feed_forward.key.weight"}},
                                            {"mixer.receptance.weight", {"feed_forward.receptance.weight"}},
                                            {"mixer.value.weight", {"feed_forward.value.weight"}}};
  family.read = rwkv_family_detail::read;
  family.write = rwkv_family_detail::write;
  return family;
}

}  // namespace hippodrome::huggingface
