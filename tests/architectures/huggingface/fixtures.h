#pragma once

#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "architectures/huggingface/keys.h"
#include "architectures/registry.h"
#include "core/io/atomic_file.h"
#include "core/io/safetensors.h"
#include "core/layer/parameters.h"
#include "tests/test_folder.h"

// Tiny checkpoints as their families' files are, written down here by hand: names and shapes do not come from the code under
// test.
namespace hippodrome::huggingface_fixtures {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Shapes = std::map<std::string, std::vector<int64_t>>;

struct Checkpoint {
  Json config;
  Shapes shapes;
};

inline const Registry& registry() {
  static const Registry all = [] {
    Registry registry;
    register_all(registry);
    return registry;
  }();
  return all;
}

inline void layers(Shapes& shapes, const std::string& prefix, int64_t count, const Shapes& layer) {
  for (int64_t i = 0; i < count; ++i) {
    for (const auto& [name, shape] : layer) shapes[prefix + std::to_string(i) + "." + name] = shape;
  }
}

inline Checkpoint gpt2() {
  Checkpoint made{{{"model_type", "gpt2"}, {"vocab_size", 11}, {"n_positions", 16}, {"n_embd", 12}, {"n_layer", 2}, {"n_head", 4}},
                  {{"transformer.wte.weight", {11, 12}},
                   {"transformer.wpe.weight", {16, 12}},
                   {"transformer.ln_f.weight", {12}},
                   {"transformer.ln_f.bias", {12}}}};
  layers(made.shapes, "transformer.h.", 2,
         {{"ln_1.weight", {12}}, {"ln_1.bias", {12}}, {"ln_2.weight", {12}}, {"ln_2.bias", {12}},
          {"attn.c_attn.weight", {12, 36}}, {"attn.c_attn.bias", {36}},
          {"attn.c_proj.weight", {12, 12}}, {"attn.c_proj.bias", {12}},
          {"mlp.c_fc.weight", {12, 48}}, {"mlp.c_fc.bias", {48}},
          {"mlp.c_proj.weight", {48, 12}}, {"mlp.c_proj.bias", {12}}});
  return made;
}

inline Checkpoint llama() {
  Checkpoint made{{{"model_type", "llama"}, {"vocab_size", 11}, {"hidden_size", 12}, {"intermediate_size", 20},
                   {"num_hidden_layers", 2}, {"num_attention_heads", 6}, {"num_key_value_heads", 2}, {"head_dim", 4},
                   {"attention_bias", true}, {"mlp_bias", true}, {"rms_norm_eps", 1e-5}, {"rope_theta", 5e5}},
                  {{"model.embed_tokens.weight", {11, 12}}, {"model.norm.weight", {12}}, {"lm_head.weight", {11, 12}}}};
  layers(made.shapes, "model.layers.", 2,
         {{"input_layernorm.weight", {12}}, {"post_attention_layernorm.weight", {12}},
          {"self_attn.q_proj.weight", {24, 12}}, {"self_attn.q_proj.bias", {24}},
          {"self_attn.k_proj.weight", {8, 12}}, {"self_attn.k_proj.bias", {8}},
          {"self_attn.v_proj.weight", {8, 12}}, {"self_attn.v_proj.bias", {8}},
          {"self_attn.o_proj.weight", {12, 24}}, {"self_attn.o_proj.bias", {12}},
          {"mlp.gate_proj.weight", {20, 12}}, {"mlp.gate_proj.bias", {20}},
          {"mlp.up_proj.weight", {20, 12}}, {"mlp.up_proj.bias", {20}},
          {"mlp.down_proj.weight", {12, 20}}, {"mlp.down_proj.bias", {12}}});
  return made;
}

inline Checkpoint mistral() {
  Checkpoint made{{{"model_type", "mistral"}, {"vocab_size", 11}, {"hidden_size", 12}, {"intermediate_size", 20},
                   {"num_hidden_layers", 2}, {"num_attention_heads", 3}, {"num_key_value_heads", 1}, {"sliding_window", nullptr}},
                  {{"model.embed_tokens.weight", {11, 12}}, {"model.norm.weight", {12}}, {"lm_head.weight", {11, 12}}}};
  layers(made.shapes, "model.layers.", 2,
         {{"input_layernorm.weight", {12}}, {"post_attention_layernorm.weight", {12}},
          {"self_attn.q_proj.weight", {12, 12}}, {"self_attn.k_proj.weight", {4, 12}}, {"self_attn.v_proj.weight", {4, 12}},
          {"self_attn.o_proj.weight", {12, 12}}, {"mlp.gate_proj.weight", {20, 12}}, {"mlp.up_proj.weight", {20, 12}},
          {"mlp.down_proj.weight", {12, 20}}});
  return made;
}

inline Checkpoint mamba() {
  Checkpoint made{{{"model_type", "mamba"}, {"vocab_size", 11}, {"hidden_size", 12}, {"intermediate_size", 20}, {"expand", 2},
                   {"state_size", 5}, {"conv_kernel", 3}, {"time_step_rank", "auto"}, {"num_hidden_layers", 2}, {"use_bias", true}},
                  {{"backbone.embeddings.weight", {11, 12}}, {"backbone.norm_f.weight", {12}}}};
  layers(made.shapes, "backbone.layers.", 2,
         {{"norm.weight", {12}}, {"mixer.in_proj.weight", {40, 12}}, {"mixer.in_proj.bias", {40}},
          {"mixer.conv1d.weight", {20, 1, 3}}, {"mixer.conv1d.bias", {20}}, {"mixer.x_proj.weight", {11, 20}},
          {"mixer.dt_proj.weight", {20, 1}}, {"mixer.dt_proj.bias", {20}}, {"mixer.A_log", {20, 5}}, {"mixer.D", {20}},
          {"mixer.out_proj.weight", {12, 20}}, {"mixer.out_proj.bias", {12}}});
  return made;
}

inline Checkpoint rwkv() {
  Checkpoint made{{{"model_type", "rwkv"}, {"vocab_size", 11}, {"hidden_size", 12}, {"intermediate_size", 20},
                   {"num_hidden_layers", 2}, {"layer_norm_epsilon", 1e-3}, {"rescale_every", 6}},
                  {{"rwkv.embeddings.weight", {11, 12}}, {"rwkv.blocks.0.pre_ln.weight", {12}}, {"rwkv.blocks.0.pre_ln.bias", {12}},
                   {"rwkv.ln_out.weight", {12}}, {"rwkv.ln_out.bias", {12}}, {"head.weight", {11, 12}}}};
  layers(made.shapes, "rwkv.blocks.", 2,
         {{"ln1.weight", {12}}, {"ln1.bias", {12}}, {"ln2.weight", {12}}, {"ln2.bias", {12}},
          {"attention.time_decay", {12}}, {"attention.time_first", {12}},
          {"attention.time_mix_key", {1, 1, 12}}, {"attention.time_mix_value", {1, 1, 12}},
          {"attention.time_mix_receptance", {1, 1, 12}},
          {"attention.key.weight", {12, 12}}, {"attention.value.weight", {12, 12}}, {"attention.receptance.weight", {12, 12}},
          {"attention.output.weight", {12, 12}},
          {"feed_forward.time_mix_key", {1, 1, 12}}, {"feed_forward.time_mix_receptance", {1, 1, 12}},
          {"feed_forward.key.weight", {20, 12}}, {"feed_forward.receptance.weight", {12, 12}},
          {"feed_forward.value.weight", {12, 20}}});
  return made;
}

inline Checkpoint mixtral() {
  Checkpoint made{{{"model_type", "mixtral"}, {"vocab_size", 11}, {"hidden_size", 12}, {"intermediate_size", 20},
                   {"num_hidden_layers", 2}, {"num_attention_heads", 3}, {"num_key_value_heads", 1}, {"sliding_window", 4},
                   {"num_local_experts", 3}, {"num_experts_per_tok", 2}},
                  {{"model.embed_tokens.weight", {11, 12}}, {"model.norm.weight", {12}}, {"lm_head.weight", {11, 12}}}};
  layers(made.shapes, "model.layers.", 2,
         {{"input_layernorm.weight", {12}}, {"post_attention_layernorm.weight", {12}},
          {"self_attn.q_proj.weight", {12, 12}}, {"self_attn.k_proj.weight", {4, 12}}, {"self_attn.v_proj.weight", {4, 12}},
          {"self_attn.o_proj.weight", {12, 12}}, {"block_sparse_moe.gate.weight", {3, 12}}});
  for (const std::string layer : {"0", "1"}) {
    layers(made.shapes, "model.layers." + layer + ".block_sparse_moe.experts.", 3,
           {{"w1.weight", {20, 12}}, {"w3.weight", {20, 12}}, {"w2.weight", {12, 20}}});
  }
  return made;
}

inline Checkpoint mamba2() {
  Checkpoint made{{{"model_type", "mamba2"}, {"vocab_size", 11}, {"hidden_size", 12}, {"expand", 2}, {"num_heads", 6},
                   {"head_dim", 4}, {"n_groups", 2}, {"state_size", 5}, {"conv_kernel", 3}, {"num_hidden_layers", 2},
                   {"time_step_limit", {0.0, {{"__float__", "Infinity"}}}}},
                  {{"backbone.embeddings.weight", {11, 12}}, {"backbone.norm_f.weight", {12}}, {"lm_head.weight", {11, 12}}}};
  layers(made.shapes, "backbone.layers.", 2,
         {{"norm.weight", {12}}, {"mixer.in_proj.weight", {74, 12}}, {"mixer.conv1d.weight", {44, 1, 3}},
          {"mixer.conv1d.bias", {44}}, {"mixer.dt_bias", {6}}, {"mixer.A_log", {6}}, {"mixer.D", {6}},
          {"mixer.norm.weight", {24}}, {"mixer.out_proj.weight", {12, 24}}});
  return made;
}

// Layers: Mamba and experts, attention and a plain MLP, Mamba and experts.
inline Checkpoint jamba() {
  Checkpoint made{{{"model_type", "jamba"}, {"vocab_size", 11}, {"hidden_size", 12}, {"intermediate_size", 20},
                   {"num_hidden_layers", 3}, {"num_attention_heads", 3}, {"num_key_value_heads", 1}, {"num_experts", 3},
                   {"attn_layer_period", 3}, {"attn_layer_offset", 1}, {"expert_layer_period", 2}, {"expert_layer_offset", 0},
                   {"mamba_d_state", 5}, {"mamba_d_conv", 3}, {"mamba_expand", 2}, {"mamba_dt_rank", "auto"}},
                  {{"model.embed_tokens.weight", {11, 12}}, {"model.final_layernorm.weight", {12}}, {"lm_head.weight", {11, 12}}}};
  layers(made.shapes, "model.layers.", 3, {{"input_layernorm.weight", {12}}, {"pre_ff_layernorm.weight", {12}}});
  for (const std::string layer : {"0", "2"}) {
    const std::string prefix = "model.layers." + layer + ".";
    for (const auto& [name, shape] : Shapes{{"in_proj.weight", {48, 12}}, {"conv1d.weight", {24, 1, 3}}, {"conv1d.bias", {24}},
                                            {"x_proj.weight", {11, 24}}, {"dt_layernorm.weight", {1}}, {"b_layernorm.weight", {5}},
                                            {"c_layernorm.weight", {5}}, {"dt_proj.weight", {24, 1}}, {"dt_proj.bias", {24}},
                                            {"A_log", {24, 5}}, {"D", {24}}, {"out_proj.weight", {12, 24}}}) {
      made.shapes[prefix + "mamba." + name] = shape;
    }
    made.shapes[prefix + "feed_forward.router.weight"] = {3, 12};
    layers(made.shapes, prefix + "feed_forward.experts.", 3,
           {{"gate_proj.weight", {20, 12}}, {"up_proj.weight", {20, 12}}, {"down_proj.weight", {12, 20}}});
  }
  for (const auto& [name, shape] : Shapes{{"self_attn.q_proj.weight", {12, 12}}, {"self_attn.k_proj.weight", {4, 12}},
                                          {"self_attn.v_proj.weight", {4, 12}}, {"self_attn.o_proj.weight", {12, 12}},
                                          {"feed_forward.gate_proj.weight", {20, 12}}, {"feed_forward.up_proj.weight", {20, 12}},
                                          {"feed_forward.down_proj.weight", {12, 20}}}) {
    made.shapes["model.layers.1." + name] = shape;
  }
  return made;
}

inline std::map<std::string, Checkpoint> all() {
  return {{"gpt2", gpt2()},   {"llama", llama()},   {"mistral", mistral()}, {"mixtral", mixtral()},
          {"mamba", mamba()}, {"mamba2", mamba2()}, {"rwkv", rwkv()},       {"jamba", jamba()}};
}

// Each tensor drawn by its name.
inline std::map<std::string, Tensor> drawn(const Shapes& shapes, at::ScalarType type = at::kFloat) {
  std::map<std::string, Tensor> tensors;
  for (const auto& [name, shape] : shapes) {
    Tensor tensor = at::empty(shape, at::kFloat);
    initialise::normal(0.5)(tensor, RandomStream(1, name));
    tensors[name] = tensor.to(type);
  }
  return tensors;
}

// A folder of the running test's own.
class FolderTest : public testing_folder::FolderTest {
 protected:
  fs::path write(const std::string& name, const Json& config, const std::map<std::string, Tensor>& tensors) const {
    fs::create_directories(folder_ / name);
    EXPECT_TRUE(write_file(folder_ / name / "config.json", config.dump()).ok());
    EXPECT_TRUE(write_safetensors(folder_ / name / "model.safetensors", tensors).ok());
    return folder_ / name;
  }
};

}  // namespace hippodrome::huggingface_fixtures
