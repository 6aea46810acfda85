#pragma once

#include "core/layer/registry.h"

// Models by name, a file per family: at published sizes, and at a size for racing on a CPU (some 0.4 M parameters beside
// embedding and head). Recipes override them key by key, and `match` solves the width. Each keeps its authors' initial values.
namespace hippodrome {

void register_recurrent_presets(Registry& registry);
void register_encoder_decoder_presets(Registry& registry);
void register_transformer_presets(Registry& registry);
void register_rwkv_presets(Registry& registry);
void register_ssm_presets(Registry& registry);
void register_h3_presets(Registry& registry);
void register_mixture_presets(Registry& registry);
void register_hybrid_presets(Registry& registry);

// All of them.
void register_presets(Registry& registry);

}  // namespace hippodrome
