#pragma once

#include <string>
#include <vector>

#include "core/model/language_model.h"

// Where published names and size tables mislead.
namespace hippodrome {

// The preset meant by a name that does not exist but is often written, with a sentence that says so; any other name is
// returned as it is, without one.
struct MisreadName {
  std::string preset;
  std::string warning;
};
MisreadName misread_name(const std::string& name);

// Sentences about a model whose shape is that of a known wrong table.
std::vector<std::string> shape_warnings(const LanguageModel& model);

}  // namespace hippodrome
