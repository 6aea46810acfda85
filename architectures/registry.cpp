#include "architectures/registry.h"

#include "architectures/transformer/attention/attention.h"
#include "architectures/transformer/mlp/mlp.h"

namespace hippodrome {

void register_all(Registry& registry) {
  registry.add(layer_entry<Attention>("attention", "transformer", "causal attention, grouped queries, rotary positions, cache"));
  registry.add(layer_entry<Mlp>("mlp", "transformer", "position-wise feed-forward layer: ReLU, GELU, SwiGLU"));
  register_presets(registry);
}

}  // namespace hippodrome
