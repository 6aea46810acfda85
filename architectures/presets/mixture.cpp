#include "architectures/presets/presets.h"

namespace hippodrome {

void register_mixture_presets(Registry& registry) {
  registry.add(PresetEntry{"mixtral-tiny", "Mixtral at racing size: attention with grouped queries, four experts", R"(
pattern = ["attention", "moe"]
repeats = 2
width = 128
norm = "rms_norm"
tied = true
[blocks.attention]
heads = 4
kv_heads = 2
init = "gpt2"
[blocks.moe]
experts = 4
top_k = 2
expansion = 0.875
init = "gpt2"
)"});

  registry.add(PresetEntry{"mixtral-8x7b", "Mixtral 8x7B: 46.7 B parameters, of which a token meets 12.9 B", R"(
pattern = ["attention", "moe"]
repeats = 32
width = 4096
vocabulary = 32000
norm = "rms_norm"
norm_epsilon = 1e-5
tied = false
[blocks.attention]
heads = 32
kv_heads = 8
rope_base = 1e6
init = "gpt2"
[blocks.moe]
experts = 8
top_k = 2
hidden = 14336
router = "mixtral"
init = "gpt2"
)"});

  registry.add(PresetEntry{"mixtral-8x22b", "Mixtral 8x22B: 140.6 B parameters, of which a token meets 39.2 B", R"(
pattern = ["attention", "moe"]
repeats = 56
width = 6144
vocabulary = 32768
norm = "rms_norm"
norm_epsilon = 1e-5
tied = false
[blocks.attention]
heads = 48
kv_heads = 8
rope_base = 1e6
init = "gpt2"
[blocks.moe]
experts = 8
top_k = 2
hidden = 16384
router = "mixtral"
init = "gpt2"
)"});
}

}  // namespace hippodrome
