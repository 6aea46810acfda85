#include <algorithm>

#include "architectures/huggingface/llama.h"

namespace hippodrome::huggingface {
namespace jamba_family_detail {
namespace {

struct Keys {
  int64_t vocab_size = 65536, hidden_size = 4096, intermediate_size = 14336, num_hidden_layers = 32;
  int64_t num_attention_heads = 32, num_key_value_heads = 8, head_dim = 0;  // 0: as many as heads; D / H
  int64_t num_experts = 16, num_experts_per_tok = 2;
  int64_t expert_layer_period = 2, expert_layer_offset = 1, attn_layer_period = 8, attn_layer_offset = 4;
  int64_t mamba_d_state = 16, mamba_d_conv = 4, mamba_dt_rank = 0;  // 0: hidden_size / 16, rounded up
  double mamba_expand = 2.0, rms_norm_eps = 1e-6, router_aux_loss_coef = 1e-3;
  bool mamba_conv_bias = true, mamba_proj_bias = false, tie_word_embeddings = false;
  std::string hidden_act = "silu";

  void bind(Fields& fields) {
    fields.integer("vocab_size", vocab_size, {1, int64_t{1} << 31}, "V");
    fields.integer("hidden_size", hidden_size, {1, 1 << 20}, "D");
    fields.integer("intermediate_size", intermediate_size, {1, 1 << 24}, "F");
    fields.integer("num_hidden_layers", num_hidden_layers, {1, 1000}, "layers");
    fields.integer("num_attention_heads", num_attention_heads, {1, 4096}, "H");
    fields.integer("num_key_value_heads", num_key_value_heads, {0, 4096}, "G; 0: H");
    fields.integer("head_dim", head_dim, {0, 4096}, "hd; 0: D / H");
    fields.integer("num_experts", num_experts, {1, 4096}, "n");
    fields.integer("num_experts_per_tok", num_experts_per_tok, {1, 4096}, "experts of a token");
    fields.integer("expert_layer_period", expert_layer_period, {1, 1 << 20}, "every so many layers there are experts");
    fields.integer("expert_layer_offset", expert_layer_offset, {0, 1 << 20}, "the first layer with experts");
    fields.integer("attn_layer_period", attn_layer_period, {1, 1 << 20}, "every so many layers there is attention");
    fields.integer("attn_layer_offset", attn_layer_offset, {0, 1 << 20}, "the first layer with attention");
    fields.integer("mamba_d_state", mamba_d_state, {1, 256}, "N");
    fields.integer("mamba_d_conv", mamba_d_conv, {1, 16}, "K");
    fields.integer("mamba_dt_rank", mamba_dt_rank, {0, 1 << 16}, "R; 0: D / 16, rounded up");
    fields.number("mamba_expand", mamba_expand, {0.0, 64.0}, "d_in / D");
    fields.number("rms_norm_eps", rms_norm_eps, {0.0, 1.0}, "added to the mean square, inside Mamba too");
    fields.number("router_aux_loss_coef", router_aux_loss_coef, {0.0, 1e6}, "weight of the balance loss");
    fields.flag("mamba_conv_bias", mamba_conv_bias, "bias of the convolution");
    fields.flag("mamba_proj_bias", mamba_proj_bias, "biases of Mamba's input and output projections");
    fields.flag("tie_word_embeddings", tie_word_embeddings, "the head is the embedding");
    fields.choice("hidden_act", hidden_act, {"silu", "swish"}, "of all gates");
  }
};

// The blocks of all layers, two a layer.
std::vector<std::string> blocks_of(const Keys& keys) {
  std::vector<std::string> blocks;
  for (int64_t layer = 0; layer < keys.num_hidden_layers; ++layer) {
    const bool attention = layer % keys.attn_layer_period == keys.attn_layer_offset;
    const bool experts = keys.num_experts > 1 && layer % keys.expert_layer_period == keys.expert_layer_offset;
    blocks.emplace_back(attention ? "attention" : "mamba");
    blocks.emplace_back(experts ? "moe" : "mlp");
  }
  return blocks;
}

// The shortest pattern of whole layers that, repeated, gives `blocks`.
std::vector<std::string> shortest_pattern(const std::vector<std::string>& blocks) {
  for (size_t period = 2; period < blocks.size(); period += 2) {
    const auto second = blocks.begin() + static_cast<std::ptrdiff_t>(period);
    if (blocks.size() % period == 0 && std::equal(second, blocks.end(), blocks.begin()))
      return {blocks.begin(), second};
  }
  return blocks;
}

absl::StatusOr<ModelConfig> read(const Json& json, const std::string& file) {
  ASSIGN_OR_RETURN(const Keys keys, read_keys(json, file, Keys()));
  if (keys.head_dim == 0 && keys.hidden_size % keys.num_attention_heads != 0) {
    return absl::InvalidArgumentError(
        file + ": \"hidden_size\" = " + std::to_string(keys.hidden_size) +
        " must be a multiple of \"num_attention_heads\" = " + std::to_string(keys.num_attention_heads));
  }
  const std::vector<std::string> blocks = blocks_of(keys);
  ModelConfig config;
  config.pattern = shortest_pattern(blocks);
  config.repeats = static_cast<int64_t>(blocks.size() / config.pattern.size());
  config.width = keys.hidden_size;
  config.vocabulary = keys.vocab_size;
  config.block.norm = "rms_norm";
  config.block.norm_epsilon = keys.rms_norm_eps;
  config.tied = keys.tie_word_embeddings;
  const int64_t kv_heads = keys.num_key_value_heads > 0 ? keys.num_key_value_heads : keys.num_attention_heads;
  const int64_t head_size = keys.head_dim > 0 ? keys.head_dim : keys.hidden_size / keys.num_attention_heads;
  const int64_t rank = keys.mamba_dt_rank > 0 ? keys.mamba_dt_rank : (keys.hidden_size + 15) / 16;
  const auto add = [&](const std::string& layer, ConfigValue table) {
    if (std::find(blocks.begin(), blocks.end(), layer) != blocks.end()) config.blocks.set(layer, std::move(table));
  };
  add("attention", block_table(file, {{"heads", ConfigValue(keys.num_attention_heads)},
                                      {"kv_heads", ConfigValue(kv_heads)},
                                      {"head_size", ConfigValue(head_size)},
                                      {"positions", ConfigValue(std::string("none"))}}));
  add("mamba", block_table(file, {{"state", ConfigValue(keys.mamba_d_state)},
                                  {"conv", ConfigValue(keys.mamba_d_conv)},
                                  {"expand", ConfigValue(keys.mamba_expand)},
                                  {"dt_rank", ConfigValue(rank)},
                                  {"conv_bias", ConfigValue(keys.mamba_conv_bias)},
                                  {"bias", ConfigValue(keys.mamba_proj_bias)},
                                  {"inner_norms", ConfigValue(true)},
                                  {"inner_norm_epsilon", ConfigValue(keys.rms_norm_eps)}}));
  add("mlp", block_table(file, {{"activation", ConfigValue(std::string("swiglu"))},
                                {"hidden", ConfigValue(keys.intermediate_size)},
                                {"bias", ConfigValue(false)}}));
  add("moe", block_table(file, {{"experts", ConfigValue(keys.num_experts)},
                                {"top_k", ConfigValue(keys.num_experts_per_tok)},
                                {"hidden", ConfigValue(keys.intermediate_size)},
                                {"router", ConfigValue(std::string("jamba"))},
                                {"balance_loss", ConfigValue(keys.router_aux_loss_coef)}}));
  return config;
}

// Every so many layers, from which on, such a block stands at `place` of a layer; never, where there is none.
void find_period(const ResolvedModel& model, const std::string& block, size_t place, int64_t& period, int64_t& offset) {
  std::vector<int64_t> layers;
  for (size_t i = place; i < model.blocks.size(); i += 2) {
    if (model.blocks[i].block.layer == block) layers.push_back(static_cast<int64_t>(i / 2));
  }
  const int64_t all = model.layers_of(2);
  offset = layers.empty() ? all : layers[0];
  period = layers.size() > 1 ? layers[1] - layers[0] : all + 1;
}

absl::StatusOr<Json> write(const ResolvedModel& model) {
  const auto mixer = [](int64_t block) { return "blocks." + std::to_string(block) + ".mixer."; };
  const int64_t attention = model.first("attention"), mamba = model.first("mamba"), mlp = model.first("mlp"),
                moe = model.first("moe");
  Keys keys;
  keys.vocab_size = model.size("embedding.weight", 0);
  keys.hidden_size = model.config.width;
  keys.num_hidden_layers = model.layers_of(2);
  keys.intermediate_size =
      std::max(model.size(mixer(mlp) + "down.weight", 1), model.size(mixer(moe) + "experts.down.weight", 2));
  keys.num_attention_heads = 1;
  keys.num_key_value_heads = 1;
  if (attention >= 0) {
    keys.num_attention_heads = std::max<int64_t>(1, model.integer(attention, "heads"));
    keys.head_dim = std::max<int64_t>(1, model.size(mixer(attention) + "out.weight", 1) / keys.num_attention_heads);
    keys.num_key_value_heads =
        (model.size(mixer(attention) + "qkv.weight", 0) / keys.head_dim - keys.num_attention_heads) / 2;
  }
  keys.num_experts = std::max<int64_t>(1, model.size(mixer(moe) + "router.weight", 0));
  if (moe >= 0) {
    keys.num_experts_per_tok = model.integer(moe, "top_k");
    keys.router_aux_loss_coef = model.number(moe, "balance_loss");
  }
  find_period(model, "moe", 1, keys.expert_layer_period, keys.expert_layer_offset);
  find_period(model, "attention", 0, keys.attn_layer_period, keys.attn_layer_offset);
  if (mamba >= 0) {
    keys.mamba_d_state = model.integer(mamba, "state");
    keys.mamba_d_conv = model.integer(mamba, "conv");
    keys.mamba_dt_rank = model.size(mixer(mamba) + "dt_proj.weight", 1);
    keys.mamba_conv_bias = model.flag(mamba, "conv_bias");
    keys.mamba_proj_bias = model.flag(mamba, "bias");
  }
  keys.rms_norm_eps = model.config.block.norm_epsilon;
  keys.tie_word_embeddings = model.config.tied;
  Json json = write_keys(keys);
  if (keys.head_dim == 0 || keys.head_dim * keys.num_attention_heads == keys.hidden_size) json.erase("head_dim");
  // There it is an integer; a model whose inner width is no multiple differs when read back.
  json["mamba_expand"] = mamba >= 0 ? model.size(mixer(mamba) + "out_proj.weight", 1) / keys.hidden_size : 2;
  return json;
}

}  // namespace
}  // namespace jamba_family_detail

Family jamba_family() {
  Family family{.name = "jamba", .architecture = "JambaForCausalLM", .prefix = "model.", .layers = "model.layers."};
  family.model_rules = {{"embedding.weight", {"model.embed_tokens.weight"}},
                        {"final_norm.weight", {"model.final_layernorm.weight"}},
                        {"head.weight", {"lm_head.weight"}}};
  family.block_rules["attention"] = llama_attention_rules();
  family.block_rules["mamba"] = {{"norm.weight", {"input_layernorm.weight"}},
                                 {"mixer.in_proj.weight", {"mamba.in_proj.weight"}},
                                 {"mixer.in_proj.bias", {"mamba.in_proj.bias"}},
                                 {"mixer.conv1d.weight", {"mamba.conv1d.weight"}, TensorRule::Form::kMiddleAxis},
                                 {"mixer.conv1d.bias", {"mamba.conv1d.bias"}},
                                 {"mixer.x_proj.weight", {"mamba.x_proj.weight"}},
                                 {"mixer.dt_norm.weight", {"mamba.dt_layernorm.weight"}},
                                 {"mixer.B_norm.weight", {"mamba.b_layernorm.weight"}},
                                 {"mixer.C_norm.weight", {"mamba.c_layernorm.weight"}},
                                 {"mixer.dt_proj.weight", {"mamba.dt_proj.weight"}},
                                 {"mixer.dt_proj.bias", {"mamba.dt_proj.bias"}},
                                 {"mixer.A_log", {"mamba.A_log"}},
                                 {"mixer.D", {"mamba.D"}},
                                 {"mixer.out_proj.weight", {"mamba.out_proj.weight"}},
                                 {"mixer.out_proj.bias", {"mamba.out_proj.bias"}}};
  family.block_rules["mlp"] = {{"norm.weight", {"pre_ff_layernorm.weight"}},
                               {"mixer.up.weight", {"feed_forward.gate_proj.weight", "feed_forward.up_proj.weight"}},
                               {"mixer.down.weight", {"feed_forward.down_proj.weight"}}};
  family.block_rules["moe"] = {
      {"norm.weight", {"pre_ff_layernorm.weight"}},
      {"mixer.router.weight", {"feed_forward.router.weight"}},
      {"mixer.experts.up.weight", {"feed_forward.experts.#.gate_proj.weight", "feed_forward.experts.#.up_proj.weight"}},
      {"mixer.experts.down.weight", {"feed_forward.experts.#.down_proj.weight"}}};
  family.read = jamba_family_detail::read;
  family.write = jamba_family_detail::write;
  return family;
}

}  // namespace hippodrome::huggingface
