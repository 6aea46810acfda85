#include "architectures/presets/presets.h"

// Jamba (Lieber et al. 2024; Jamba-1.5, 2408.12570): in a period of eight layers one has attention, without positions, and the
// others Mamba, with its inner norms; each is followed by a channel mixer, an MLP and experts in turn.
namespace hippodrome {

void register_hybrid_presets(Registry& registry) {
  // A period of four instead of eight, so that depth stays that of the other racing sizes.
  registry.add(PresetEntry{"jamba-tiny", "Jamba at racing size: a period of four layers, four experts", R"(
pattern = ["mamba", "mlp", "mamba", "moe", "attention", "mlp", "mamba", "moe"]
repeats = 1
width = 96
norm = "rms_norm"
norm_epsilon = 1e-6
tied = true
[blocks.mamba]
inner_norms = true
[blocks.attention]
heads = 4
kv_heads = 2
positions = "none"
init = "gpt2"
[blocks.mlp]
activation = "swiglu"
bias = false
init = "gpt2"
[blocks.moe]
experts = 4
top_k = 2
expansion = 0.66
router = "jamba"
init = "gpt2"
)"});

  registry.add(PresetEntry{"jamba", "Jamba: 51.6 B parameters, of which a token meets 12.1 B", R"(
pattern = ["mamba", "mlp", "mamba", "moe", "mamba", "mlp", "mamba", "moe",
           "attention", "mlp", "mamba", "moe", "mamba", "mlp", "mamba", "moe"]
repeats = 4
width = 4096
vocabulary = 65536
norm = "rms_norm"
norm_epsilon = 1e-6
tied = false
[blocks.mamba]
inner_norms = true
[blocks.attention]
heads = 32
kv_heads = 8
positions = "none"
init = "gpt2"
[blocks.mlp]
activation = "swiglu"
bias = false
hidden = 14336
init = "gpt2"
[blocks.moe]
experts = 16
top_k = 2
hidden = 14336
router = "jamba"
init = "gpt2"
)"});

  registry.add(PresetEntry{"jamba-1.5-large", "Jamba 1.5 Large: 398.6 B parameters, of which a token meets 94.1 B", R"(
pattern = ["mamba", "mlp", "mamba", "moe", "mamba", "mlp", "mamba", "moe",
           "attention", "mlp", "mamba", "moe", "mamba", "mlp", "mamba", "moe"]
repeats = 9
width = 8192
vocabulary = 65536
norm = "rms_norm"
norm_epsilon = 1e-6
tied = false
[blocks.mamba]
inner_norms = true
[blocks.attention]
heads = 64
kv_heads = 8
positions = "none"
init = "gpt2"
[blocks.mlp]
activation = "swiglu"
bias = false
hidden = 24576
init = "gpt2"
[blocks.moe]
experts = 16
top_k = 2
hidden = 24576
router = "jamba"
init = "gpt2"
)"});
}

}  // namespace hippodrome
