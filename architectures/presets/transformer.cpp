#include "architectures/presets/presets.h"

namespace hippodrome {

void register_transformer_presets(Registry& registry) {
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
}

}  // namespace hippodrome
