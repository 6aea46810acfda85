#pragma once

#include <string>
#include <vector>

#include "architectures/huggingface/family.h"

namespace hippodrome::huggingface {

// What `a` computes otherwise than `b`, a sentence part for each difference: "blocks.0.mixer: rope_layout is
// "interleaved", not "half"". Keys that only choose initial values, kernels or the training loss are not looked at, nor
// those that only choose sizes, since parameters are compared by shape.
std::vector<std::string> differences(const ResolvedModel& a, const ResolvedModel& b);

}  // namespace hippodrome::huggingface
