#pragma once

#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/tensor/tensor.h"

namespace hippodrome {

// How weights in files differ from those a model asks for, gathered so that one error tells all of it.
struct WeightMismatch {
  std::vector<std::string> missing;
  std::vector<std::string> misshapen;  // with both shapes
  std::vector<std::string> extra;

  void add_misshapen(const std::string& name, at::IntArrayRef found, at::IntArrayRef wanted);
  // OK when there is nothing; else DataLoss "`where` does not fit the model; missing: …; of another shape: …; not in
  // the model: …". Long lists are cut, and say by how many.
  absl::Status status(const std::string& where) const;
};

}  // namespace hippodrome
