// Every layer and preset, for tests that are tables over them.
#pragma once

#include "architectures/registry.h"

namespace hippodrome {

inline const Registry& whole_registry() {
  static const Registry all = [] {
    Registry registry;
    register_all(registry);
    return registry;
  }();
  return all;
}

}  // namespace hippodrome
