#include "architectures/huggingface/llama.h"

namespace hippodrome::huggingface {
namespace mixtral_detail {
namespace {

struct Keys {
  LlamaKeys llama;
  int64_t num_local_experts = 8, num_experts_per_tok = 2;
  double router_aux_loss_coef = 1e-3;

  void bind(Fields& fields) {
    llama.bind(fields);
    fields.integer("num_local_experts", num_local_experts, {1, 4096}, "n");
    fields.integer("num_experts_per_tok", num_experts_per_tok, {1, 4096}, "experts of a token");
    fields.number("router_aux_loss_coef", router_aux_loss_coef, {0.0, 1e6}, "weight of the balance loss");
  }
};

Keys defaults() {
  Keys keys;
  keys.llama.windowed = true;
  keys.llama.default_rope_base = 1e6;
  keys.llama.intermediate_size = 14336;
  keys.llama.num_key_value_heads = 8;
  keys.llama.rms_norm_eps = 1e-5;
  return keys;
}

absl::StatusOr<ModelConfig> read(const Json& json, const std::string& file) {
  ASSIGN_OR_RETURN(const Keys keys, read_keys(json, file, defaults()));
  return llama_model(keys.llama, json, file, "moe",
                     block_table(file, {{"experts", ConfigValue(keys.num_local_experts)},
                                        {"top_k", ConfigValue(keys.num_experts_per_tok)},
                                        {"hidden", ConfigValue(keys.llama.intermediate_size)},
                                        {"router", ConfigValue(std::string("mixtral"))},
                                        {"balance_loss", ConfigValue(keys.router_aux_loss_coef)}}));
}

absl::StatusOr<Json> write(const ResolvedModel& model) {
  const int64_t moe = model.first("moe");
  const std::string mixer = "blocks." + std::to_string(moe) + ".mixer.";
  Json json = write_llama_keys(model, defaults().llama, model.size(mixer + "experts.down.weight", 2));
  json["num_local_experts"] = model.size(mixer + "router.weight", 0);
  json["num_experts_per_tok"] = model.integer(moe, "top_k");
  json["router_aux_loss_coef"] = model.number(moe, "balance_loss");
  return json;
}

}  // namespace
}  // namespace mixtral_detail

Family mixtral_family() {
  Family family{.name = "mixtral", .architecture = "MixtralForCausalLM", .prefix = "model.", .layers = "model.layers."};
  family.model_rules = llama_model_rules();
  family.block_rules["attention"] = llama_attention_rules();
  family.block_rules["moe"] = {
      {"norm.weight", {"post_attention_layernorm.weight"}},
      {"mixer.router.weight", {"block_sparse_moe.gate.weight"}},
      {"mixer.experts.up.weight", {"block_sparse_moe.experts.#.w1.weight", "block_sparse_moe.experts.#.w3.weight"}},
      {"mixer.experts.down.weight", {"block_sparse_moe.experts.#.w2.weight"}}};
  family.ignored = {".rotary_emb.inv_freq"};
  family.read = mixtral_detail::read;
  family.write = mixtral_detail::write;
  return family;
}

}  // namespace hippodrome::huggingface
