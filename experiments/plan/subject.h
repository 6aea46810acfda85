#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/model/language_model.h"

namespace hippodrome {

// A model to be planned, on the meta device.
struct PlanSubject {
  std::string name;
  std::unique_ptr<LanguageModel> model;
  std::vector<std::string> warnings;  // sentences, where a published table or name misleads
};

struct SubjectOptions {
  std::vector<std::string> overrides = {};  // --set: of a preset's keys, or of a recipe as races take them
  int64_t vocabulary = 0;                   // of models that leave it to their task; 0: the recipe's [scale], else 256 bytes
};

// What `what` names: a preset, a recipe (all of its models, matched in size), or the folder of a trial, of an imported model or
// of Hugging Face's layout. Only configurations are read, no weights.
absl::StatusOr<std::vector<PlanSubject>> plan_subjects(const std::string& what, const SubjectOptions& options,
                                                       const Registry& registry);

}  // namespace hippodrome
