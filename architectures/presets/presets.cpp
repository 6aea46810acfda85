#include "architectures/presets/presets.h"

namespace hippodrome {

void register_presets(Registry& registry) {
  register_recurrent_presets(registry);
  register_encoder_decoder_presets(registry);
  register_transformer_presets(registry);
  register_rwkv_presets(registry);
  register_ssm_presets(registry);
  register_h3_presets(registry);
  register_mixture_presets(registry);
  register_hybrid_presets(registry);
}

}  // namespace hippodrome
