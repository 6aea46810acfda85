#pragma once

#include "core/model/language_model.h"

namespace hippodrome {

// Whether a device may record the model's kernels once and replay them: not where a layer looks at values on the host
// (Traits::reads_on_host), nor with learned positions, whose limit is checked there.
inline bool recordable(const LanguageModel& model) {
  if (model.config().positions == "learned") return false;
  for (const auto& block : model.blocks()) {
    if (block->layer().traits().reads_on_host) return false;
  }
  return true;
}

}  // namespace hippodrome
