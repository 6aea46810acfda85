#include "architectures/presets/presets.h"

namespace hippodrome {

void register_recurrent_presets(Registry& registry) {
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
}

}  // namespace hippodrome
