#include "architectures/registry.h"

// Models by name, at a size for racing on a CPU: some 0.4 M parameters beside embedding and head. Recipes override them
// key by key, and `match` solves the width. Each keeps its authors' initial values.
namespace hippodrome {

void register_presets(Registry& registry) {
  // Norm and residual are not in the classic stack; they free it from the scale of the embedding and from its depth.
  registry.add(PresetEntry{"lstm", "LSTM stack, pre-norm with residuals", R"(
pattern = ["lstm"]
repeats = 3
width = 128
norm = "layer_norm"
tied = true
)"});

  registry.add(PresetEntry{"gru", "GRU stack, pre-norm with residuals", R"(
pattern = ["gru"]
repeats = 4
width = 128
norm = "layer_norm"
tied = true
)"});

  registry.add(PresetEntry{"transformer", "Transformer as Llama: RMSNorm, rotary positions, SwiGLU, no biases", R"(
pattern = ["attention", "mlp"]
repeats = 2
width = 128
norm = "rms_norm"
tied = true
[blocks.attention]
heads = 4
init = "gpt2"
[blocks.mlp]
activation = "swiglu"
bias = false
init = "gpt2"
)"});

  registry.add(PresetEntry{"gpt2", "Transformer as GPT-2: LayerNorm, learned positions, tanh GELU, biases", R"(
pattern = ["attention", "mlp"]
repeats = 2
width = 128
norm = "layer_norm"
positions = "learned"
max_positions = 2048
tied = true
[blocks.attention]
heads = 4
positions = "none"
qkv_bias = true
output_bias = true
init = "gpt2"
[blocks.mlp]
activation = "gelu_tanh"
init = "gpt2"
)"});

  registry.add(
      PresetEntry{"rwkv", "RWKV-4: time mixing and channel mixing, its small embedding and orthogonal head", R"(
pattern = ["rwkv_time_mix", "rwkv_channel_mix"]
repeats = 2
width = 128
norm = "layer_norm"
embedding_norm = true
embedding_init = "uniform"
tied = false
head_init = "orthogonal"
)"});

  registry.add(PresetEntry{"s4d", "S4D-LegS with an MLP after each layer", R"(
pattern = ["s4d", "mlp"]
repeats = 2
width = 128
norm = "layer_norm"
tied = true
[blocks.s4d]
state = 64
init = "legs"
)"});

  // A Mamba layer has half the parameters of attention and MLP together, hence twice the repeats.
  registry.add(PresetEntry{"mamba", "Mamba-1: one mixer per block, RMSNorm", R"(
pattern = ["mamba"]
repeats = 4
width = 128
norm = "rms_norm"
tied = true
)"});
}

}  // namespace hippodrome
