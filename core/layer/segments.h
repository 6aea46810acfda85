#pragma once

#include "core/layer/layer.h"

namespace hippodrome {

// The way every block calls a layer: layer.forward, except that a layer which does not pack never sees ragged positions.
// Its segments (runs without padding and without a new sequence inside) are run apart, those of equal length and start
// together as one plain batch, and the outputs and states are put back in place.
Tensor run_layer(Layer& layer, const Tensor& x, const Context& context, State* state);

}  // namespace hippodrome
