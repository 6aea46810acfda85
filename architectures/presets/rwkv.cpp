#include "architectures/presets/presets.h"

namespace hippodrome {

void register_rwkv_presets(Registry& registry) {
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
}

}  // namespace hippodrome
