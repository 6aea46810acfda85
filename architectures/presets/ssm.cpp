#include <string>

#include "architectures/presets/presets.h"

namespace hippodrome {
namespace ssm_presets_detail {
namespace {

// A published language model of the Mamba family: `layer` in every block, RMSNorm, tied head, the GPT-NeoX tokens
// padded.
PresetEntry published(const std::string& name, const std::string& doc, const std::string& layer, int64_t width,
                      int64_t repeats, int64_t vocabulary) {
  return {name, doc,
          "pattern = [\"" + layer + "\"]\nrepeats = " + std::to_string(repeats) + "\nwidth = " + std::to_string(width) +
              "\nvocabulary = " + std::to_string(vocabulary) +
              "\nnorm = \"rms_norm\"\nnorm_epsilon = 1e-5\ntied = true\n"};
}

}  // namespace
}  // namespace ssm_presets_detail

void register_ssm_presets(Registry& registry) {
  registry.add(PresetEntry{"lssl", "LSSL, trained from HiPPO-LegS, with an MLP after each layer", R"(
pattern = ["lssl", "mlp"]
repeats = 2
width = 128
norm = "layer_norm"
tied = true
[blocks.lssl]
state = 64
init = "legs"
transition = "shared"
train_dt = true
)"});

  registry.add(PresetEntry{"s4", "S4 from HiPPO-LegS with an MLP after each layer", R"(
pattern = ["s4", "mlp"]
repeats = 2
width = 128
norm = "layer_norm"
tied = true
[blocks.s4]
state = 64
init = "legs"
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

  registry.add(PresetEntry{"mamba2", "Mamba-2: one mixer per block, RMSNorm", R"(
pattern = ["mamba2"]
repeats = 4
width = 128
norm = "rms_norm"
tied = true
[blocks.mamba2]
state = 64
head_size = 32
)"});

  // Gu & Dao 2023, table 12 and the authors' checkpoints; Dao & Gu 2024, table 10 likewise.
  struct Size {
    const char *mamba, *mamba2;
    int64_t width, layers;
  };
  for (const Size& size :
       {Size{"130m", "130m", 768, 24}, Size{"370m", "370m", 1024, 48}, Size{"790m", "780m", 1536, 48},
        Size{"1.4b", "1.3b", 2048, 48}, Size{"2.8b", "2.7b", 2560, 64}}) {
    using ssm_presets_detail::published;
    const std::string mamba = std::string("mamba-") + size.mamba, mamba2 = std::string("mamba2-") + size.mamba2;
    registry.add(published(mamba, "Mamba-1 as published", "mamba", size.width, size.layers, 50280));
    registry.add(published(mamba2, "Mamba-2 as published", "mamba2", size.width, size.layers, 50288));
  }
}

}  // namespace hippodrome
