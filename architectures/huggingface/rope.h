#pragma once

#include "architectures/huggingface/family.h"

// Rotary positions in both dialects: version 4's rope_theta beside rope_scaling, version 5's rope_parameters with all
// in it.
namespace hippodrome::huggingface {

// Sets rope_base and, where scaled, rope_scaling and its numbers in the table of an attention block.
absl::Status read_rope(const Json& json, const std::string& file, double default_base, ConfigValue& attention);

// Writes version 4's dialect, which version 5 reads too, from a block of attention.
void write_rope(const ResolvedModel& model, int64_t block, Json& json);

}  // namespace hippodrome::huggingface
