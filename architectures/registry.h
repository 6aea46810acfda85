#pragma once

#include "core/layer/registry.h"

namespace hippodrome {

// Every layer and preset of the project. The place where a new layer is listed.
void register_all(Registry& registry);

}  // namespace hippodrome
