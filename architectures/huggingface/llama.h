#pragma once

#include "architectures/huggingface/family.h"

// What Llama, Mistral and Mixtral share: grouped-query attention with rotary positions, RMSNorm, gated feed-forward
// layers.
namespace hippodrome::huggingface {

struct LlamaKeys {
  // Which keys there are beside the common ones, and the base of the rotary frequencies where none is given.
  bool biased = false;    // attention_bias, mlp_bias: llama
  bool windowed = false;  // sliding_window: mistral, mixtral
  double default_rope_base = 1e4;

  int64_t vocab_size = 32000, hidden_size = 4096, intermediate_size = 11008, num_hidden_layers = 32;
  int64_t num_attention_heads = 32, num_key_value_heads = 0, head_dim = 0;  // 0: as many as heads; hidden_size / heads
  std::string hidden_act = "silu";
  double rms_norm_eps = 1e-6;
  bool tie_word_embeddings = false, attention_bias = false, mlp_bias = false, use_sliding_window = true;
  int64_t sliding_window = 0;  // 0: none

  void bind(Fields& fields);
};

// The model of such keys with an attention block and, as the second of the pattern, `feed_forward`.
absl::StatusOr<ModelConfig> llama_model(const LlamaKeys& keys, const Json& json, const std::string& file,
                                        const std::string& feed_forward, ConfigValue feed_forward_table);
// The common keys, rotary positions included.
Json write_llama_keys(const ResolvedModel& model, LlamaKeys keys, int64_t hidden);

TensorRules llama_model_rules();
TensorRules llama_attention_rules();

}  // namespace hippodrome::huggingface
