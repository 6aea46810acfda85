#pragma once

#include <map>
#include <string>
#include <vector>

#include "architectures/huggingface/family.h"

namespace hippodrome::huggingface {

// Where one parameter of a model lies in files: the elements of `parts`, one after another, are its own; or,
// transposed, those of its transpose.
struct Placement {
  struct Part {
    std::string name;
    std::vector<int64_t> shape;
  };
  ParameterPtr parameter;
  std::vector<Part> parts;
  bool transposed = false;
};

// Of every parameter, in the model's order. Unimplemented where the family's files have no place for one.
absl::StatusOr<std::vector<Placement>> place(const Family& family, LanguageModel& model);

// The tensors of one parameter as files hold them, views where its memory allows.
std::vector<Tensor> take_apart(const Placement& placement);

// Allocates the parameters in `dtype` and fills them from `tensors`, of any floating-point type. Nothing is allocated
// unless all fit: one DataLoss error lists tensors that are missing, misshapen or not the model's. Names are those of
// files: without the family's prefix, aliases, masks and, where the head is tied, a head that equals the embedding are
// accepted.
absl::Status fill(const Family& family, LanguageModel& model, std::map<std::string, Tensor> tensors,
                  const std::string& where, at::ScalarType dtype);

}  // namespace hippodrome::huggingface
