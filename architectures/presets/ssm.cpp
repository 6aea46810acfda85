#include "architectures/presets/presets.h"

namespace hippodrome {

void register_ssm_presets(Registry& registry) {
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
