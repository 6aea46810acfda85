#include "architectures/huggingface/llama.h"

#include <algorithm>

#include "architectures/huggingface/rope.h"

namespace hippodrome::huggingface {
namespace llama_detail {
namespace {

LlamaKeys llama_keys() {
  LlamaKeys keys;
  keys.biased = true;
  return keys;
}

LlamaKeys mistral_keys() {
  LlamaKeys keys;
  keys.windowed = true;
  keys.intermediate_size = 14336;
  keys.num_key_value_heads = 8;
  keys.sliding_window = 4096;
  return keys;
}

ConfigValue mlp_table(const LlamaKeys& keys, const std::string& file) {
  return block_table(file, {{"activation", ConfigValue(std::string("swiglu"))},
                            {"hidden", ConfigValue(keys.intermediate_size)},
                            {"bias", ConfigValue(keys.mlp_bias)},
                            {"init", ConfigValue(std::string("gpt2"))}});
}

absl::StatusOr<ModelConfig> read_dense(LlamaKeys defaults, const Json& json, const std::string& file) {
  ASSIGN_OR_RETURN(const LlamaKeys keys, read_keys(json, file, std::move(defaults)));
  return llama_model(keys, json, file, "mlp", mlp_table(keys, file));
}

absl::StatusOr<ModelConfig> read_llama(const Json& json, const std::string& file) {
  return read_dense(llama_keys(), json, file);
}

absl::StatusOr<ModelConfig> read_mistral(const Json& json, const std::string& file) {
  return read_dense(mistral_keys(), json, file);
}

absl::StatusOr<Json> write_dense(LlamaKeys keys, const ResolvedModel& model) {
  const int64_t mlp = model.first("mlp");
  keys.mlp_bias = model.flag(mlp, "bias");
  return write_llama_keys(model, keys, model.size("blocks." + std::to_string(mlp) + ".mixer.down.weight", 1));
}

absl::StatusOr<Json> write_llama(const ResolvedModel& model) { return write_dense(llama_keys(), model); }
absl::StatusOr<Json> write_mistral(const ResolvedModel& model) { return write_dense(mistral_keys(), model); }

Family dense_family() {
  Family family{.prefix = "model.", .layers = "model.layers."};
  family.model_rules = llama_model_rules();
  family.block_rules["attention"] = llama_attention_rules();
  family.block_rules["mlp"] = {{"norm.weight", {"post_attention_layernorm.weight"}},
                               {"mixer.up.weight", {"mlp.gate_proj.weight", "mlp.up_proj.weight"}},
                               {"mixer.up.bias", {"mlp.gate_proj.bias", "mlp.up_proj.bias"}},
                               {"mixer.down.weight", {"mlp.down_proj.weight"}},
                               {"mixer.down.bias", {"mlp.down_proj.bias"}}};
  family.ignored = {".rotary_emb.inv_freq"};
  return family;
}

}  // namespace
}  // namespace llama_detail

void LlamaKeys::bind(Fields& fields) {
  fields.integer("vocab_size", vocab_size, {1, int64_t{1} << 31}, "V");
  fields.integer("hidden_size", hidden_size, {1, 1 << 20}, "D");
  fields.integer("intermediate_size", intermediate_size, {1, 1 << 24}, "F");
  fields.integer("num_hidden_layers", num_hidden_layers, {1, 1000}, "layers");
  fields.integer("num_attention_heads", num_attention_heads, {1, 4096}, "H");
  fields.integer("num_key_value_heads", num_key_value_heads, {0, 4096}, "G; 0: H");
  fields.integer("head_dim", head_dim, {0, 4096}, "hd; 0: D / H");
  fields.choice("hidden_act", hidden_act, {"silu", "swish"}, "of the gate");
  fields.number("rms_norm_eps", rms_norm_eps, {0.0, 1.0}, "added to the mean square");
  fields.flag("tie_word_embeddings", tie_word_embeddings, "the head is the embedding");
  if (biased) {
    fields.flag("attention_bias", attention_bias, "biases of all four projections");
    fields.flag("mlp_bias", mlp_bias, "biases of all three projections");
  }
  if (windowed) {
    fields.integer("sliding_window", sliding_window, {0, int64_t{1} << 40},
                   "tokens seen, the last one included; 0: all");
    fields.flag("use_sliding_window", use_sliding_window, "false: all tokens are seen");
  }
}

absl::StatusOr<ModelConfig> llama_model(const LlamaKeys& keys, const Json& json, const std::string& file,
                                        const std::string& feed_forward, ConfigValue feed_forward_table) {
  if (keys.head_dim == 0 && keys.hidden_size % keys.num_attention_heads != 0) {
    return absl::InvalidArgumentError(file + ": \"hidden_size\" = " + std::to_string(keys.hidden_size) +
                                      " must be a multiple of \"num_attention_heads\" = " +
                                      std::to_string(keys.num_attention_heads) + " where \"head_dim\" is not given");
  }
  ModelConfig config;
  config.pattern = {"attention", feed_forward};
  config.repeats = keys.num_hidden_layers;
  config.width = keys.hidden_size;
  config.vocabulary = keys.vocab_size;
  config.block.norm = "rms_norm";
  config.block.norm_epsilon = keys.rms_norm_eps;
  config.tied = keys.tie_word_embeddings;
  const int64_t head_size = keys.head_dim > 0 ? keys.head_dim : keys.hidden_size / keys.num_attention_heads;
  const int64_t kv_heads = keys.num_key_value_heads > 0 ? keys.num_key_value_heads : keys.num_attention_heads;
  ConfigValue attention = block_table(file, {{"heads", ConfigValue(keys.num_attention_heads)},
                                             {"kv_heads", ConfigValue(kv_heads)},
                                             {"head_size", ConfigValue(head_size)},
                                             {"positions", ConfigValue(std::string("rope"))},
                                             {"qkv_bias", ConfigValue(keys.attention_bias)},
                                             {"output_bias", ConfigValue(keys.attention_bias)},
                                             {"init", ConfigValue(std::string("gpt2"))}});
  RETURN_IF_ERROR(read_rope(json, file, keys.default_rope_base, attention));
  if (keys.windowed && keys.use_sliding_window && keys.sliding_window > 0) {
    attention.set("window", ConfigValue(keys.sliding_window));
  }
  config.blocks.set("attention", std::move(attention));
  config.blocks.set(feed_forward, std::move(feed_forward_table));
  return config;
}

Json write_llama_keys(const ResolvedModel& model, LlamaKeys keys, int64_t hidden) {
  const int64_t attention = model.first("attention");
  const std::string mixer = "blocks." + std::to_string(attention) + ".mixer.";
  keys.vocab_size = model.size("embedding.weight", 0);
  keys.hidden_size = model.config.width;
  keys.intermediate_size = hidden;
  keys.num_hidden_layers = model.layers_of(2);
  keys.num_attention_heads = std::max<int64_t>(1, model.integer(attention, "heads"));
  keys.head_dim = std::max<int64_t>(1, model.size(mixer + "out.weight", 1) / keys.num_attention_heads);
  keys.num_key_value_heads = (model.size(mixer + "qkv.weight", 0) / keys.head_dim - keys.num_attention_heads) / 2;
  keys.rms_norm_eps = model.config.block.norm_epsilon;
  keys.tie_word_embeddings = model.config.tied;
  keys.attention_bias = model.flag(attention, "qkv_bias");
  keys.sliding_window = model.integer(attention, "window");
  Json json = write_keys(keys);
  json.erase("use_sliding_window");
  if (keys.windowed && keys.sliding_window == 0) json["sliding_window"] = nullptr;
  json["max_position_embeddings"] = 131072;  // rotary positions have no end
  write_rope(model, attention, json);
  return json;
}

TensorRules llama_model_rules() {
  return {{"embedding.weight", {"model.embed_tokens.weight"}},
          {"final_norm.weight", {"model.norm.weight"}},
          {"head.weight", {"lm_head.weight"}}};
}

TensorRules llama_attention_rules() {
  constexpr auto kQueryKeyValue = TensorRule::Form::kQueryKeyValue;
  return {
      {"norm.weight", {"input_layernorm.weight"}},
      {"mixer.qkv.weight",
       {"self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"},
       kQueryKeyValue},
      {"mixer.qkv.bias", {"self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"}, kQueryKeyValue},
      {"mixer.out.weight", {"self_attn.o_proj.weight"}},
      {"mixer.out.bias", {"self_attn.o_proj.bias"}}};
}

Family llama_family() {
  Family family = llama_detail::dense_family();
  family.name = "llama";
  family.architecture = "LlamaForCausalLM";
  family.read = llama_detail::read_llama;
  family.write = llama_detail::write_llama;
  return family;
}

Family mistral_family() {
  Family family = llama_detail::dense_family();
  family.name = "mistral";
  family.architecture = "MistralForCausalLM";
  family.read = llama_detail::read_mistral;
  family.write = llama_detail::write_mistral;
  return family;
}

}  // namespace hippodrome::huggingface
