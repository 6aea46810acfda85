#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "core/data/tokenizer/tokenizer.h"

namespace hippodrome {

// RWKV's "world" vocabulary: a line per token, its id, a Python literal of a string or of bytes, and its length in bytes:
//   257 '\t\t' 2
//   130 b'\x81' 1
// Text is taken apart greedily, the longest token first. Id 0, which no line has, ends a text. All 256 bytes must be tokens.
// Errors begin with `name` and the line.
absl::StatusOr<std::unique_ptr<Tokenizer>> parse_rwkv_vocabulary(std::string_view text, const std::string& name);

}  // namespace hippodrome
