#include "architectures/huggingface/family.h"

namespace hippodrome::huggingface {
namespace gpt2_detail {
namespace {

struct Keys {
  int64_t vocab_size = 50257, n_positions = 1024, n_embd = 768, n_layer = 12, n_head = 12, n_inner = 0;
  std::string activation_function = "gelu_new";
  double layer_norm_epsilon = 1e-5;
  bool scale_attn_weights = true, scale_attn_by_inverse_layer_idx = false, add_cross_attention = false;
  bool tie_word_embeddings = true;

  void bind(Fields& fields) {
    fields.integer("vocab_size", vocab_size, {1, int64_t{1} << 31}, "V");
    fields.integer("n_positions", n_positions, {1, int64_t{1} << 40}, "P");
    fields.integer("n_embd", n_embd, {1, 1 << 20}, "D");
    fields.integer("n_layer", n_layer, {1, 1000}, "layers");
    fields.integer("n_head", n_head, {1, 4096}, "H");
    fields.integer("n_inner", n_inner, {0, 1 << 24}, "F; 0: 4 D");
    fields.choice("activation_function", activation_function,
                  {"gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu", "relu"}, "of the feed-forward layer");
    fields.number("layer_norm_epsilon", layer_norm_epsilon, {0.0, 1.0}, "added to the variance");
    fields.flag("scale_attn_weights", scale_attn_weights, "scores over √hd");
    fields.flag("scale_attn_by_inverse_layer_idx", scale_attn_by_inverse_layer_idx, "scores over the layer's number");
    fields.flag("add_cross_attention", add_cross_attention, "of a decoder on an encoder");
    fields.flag("tie_word_embeddings", tie_word_embeddings, "the head is the embedding");
  }
};

absl::StatusOr<ModelConfig> read(const Json& json, const std::string& file) {
  ASSIGN_OR_RETURN(const Keys keys, read_keys(json, file, Keys()));
  if (!keys.scale_attn_weights) return unsupported(file, "\"scale_attn_weights\" = false is not computed here");
  if (keys.scale_attn_by_inverse_layer_idx) {
    return unsupported(file, "\"scale_attn_by_inverse_layer_idx\" = true is not computed here");
  }
  if (keys.add_cross_attention) return unsupported(file, "\"add_cross_attention\" = true is not computed here");
  if (keys.n_embd % keys.n_head != 0) {
    return absl::InvalidArgumentError(file + ": \"n_embd\" = " + std::to_string(keys.n_embd) +
                                      " must be a multiple of \"n_head\" = " + std::to_string(keys.n_head));
  }
  ModelConfig config;
  config.pattern = {"attention", "mlp"};
  config.repeats = keys.n_layer;
  config.width = keys.n_embd;
  config.vocabulary = keys.vocab_size;
  config.block.norm = "layer_norm";
  config.block.norm_epsilon = keys.layer_norm_epsilon;
  config.positions = "learned";
  config.max_positions = keys.n_positions;
  config.tied = keys.tie_word_embeddings;
  const std::string& activation = keys.activation_function;
  config.blocks.set("attention", block_table(file, {{"heads", ConfigValue(keys.n_head)},
                                                    {"head_size", ConfigValue(keys.n_embd / keys.n_head)},
                                                    {"positions", ConfigValue(std::string("none"))},
                                                    {"qkv_bias", ConfigValue(true)},
                                                    {"output_bias", ConfigValue(true)},
                                                    {"init", ConfigValue(std::string("gpt2"))}}));
  config.blocks.set(
      "mlp",
      block_table(file,
                  {{"activation",
                    ConfigValue(activation == "gelu" || activation == "relu" ? activation : std::string("gelu_tanh"))},
                   {"hidden", ConfigValue(keys.n_inner > 0 ? keys.n_inner : 4 * keys.n_embd)},
                   {"bias", ConfigValue(true)},
                   {"init", ConfigValue(std::string("gpt2"))}}));
  return config;
}

absl::StatusOr<Json> write(const ResolvedModel& model) {
  const int64_t attention = model.first("attention"), mlp = model.first("mlp");
  Keys keys;
  keys.vocab_size = model.size("embedding.weight", 0);
  keys.n_embd = model.config.width;
  keys.n_positions = model.config.max_positions;
  keys.n_layer = model.layers_of(2);
  keys.n_head = model.integer(attention, "heads");
  keys.n_inner = model.size("blocks." + std::to_string(mlp) + ".mixer.down.weight", 1);
  const std::string activation = model.text(mlp, "activation");
  keys.activation_function = activation == "gelu" || activation == "relu" ? activation : "gelu_new";
  keys.layer_norm_epsilon = model.config.block.norm_epsilon;
  keys.tie_word_embeddings = model.config.tied;
  return write_keys(keys);
}

}  // namespace
}  // namespace gpt2_detail

Family gpt2_family() {
  constexpr auto kTransposed = TensorRule::Form::kTransposed;
  Family family{
      .name = "gpt2", .architecture = "GPT2LMHeadModel", .prefix = "transformer.", .layers = "transformer.h."};
  family.model_rules = {{"embedding.weight", {"transformer.wte.weight"}},
                        {"position_embedding.weight", {"transformer.wpe.weight"}},
                        {"final_norm.weight", {"transformer.ln_f.weight"}},
                        {"final_norm.bias", {"transformer.ln_f.bias"}},
                        {"head.weight", {"lm_head.weight"}}};
  family.block_rules["attention"] = {{"norm.weight", {"ln_1.weight"}},
                                     {"norm.bias", {"ln_1.bias"}},
                                     {"mixer.qkv.weight", {"attn.c_attn.weight"}, kTransposed},
                                     {"mixer.qkv.bias", {"attn.c_attn.bias"}},
                                     {"mixer.out.weight", {"attn.c_proj.weight"}, kTransposed},
                                     {"mixer.out.bias", {"attn.c_proj.bias"}}};
  family.block_rules["mlp"] = {{"norm.weight", {"ln_2.weight"}},
                               {"norm.bias", {"ln_2.bias"}},
                               {"mixer.up.weight", {"mlp.c_fc.weight"}, kTransposed},
                               {"mixer.up.bias", {"mlp.c_fc.bias"}},
                               {"mixer.down.weight", {"mlp.c_proj.weight"}, kTransposed},
                               {"mixer.down.bias", {"mlp.c_proj.bias"}}};
  family.ignored = {".attn.bias", ".attn.masked_bias"};
  family.read = gpt2_detail::read;
  family.write = gpt2_detail::write;
  return family;
}

}  // namespace hippodrome::huggingface
