#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "core/base/status.h"

namespace hippodrome {

// Refuses what toml++ 3.3 cannot be trusted with, walking over strings and comments as TOML delimits them (each point was
// found by tests/fuzz):
// * It frees nested tables by recursion and does not bound the parts of a dotted key: a line of a million dots overflows the
//   stack.
// * Looking for white space it runs into undefined behaviour on some characters that are not ASCII (Arabic presentation
//   forms); TOML 1.0 has such characters in strings and comments only.
// * It assumes that a table header goes on with a name, a time with a digit, and that a value is there.
// Dates and times, which recipes have no use for, are an Unimplemented error; all else that is refused is not valid TOML, or
// nested beyond reason. Messages begin with place(line, column).
absl::Status guard_toml(std::string_view text, const std::function<std::string(size_t line, size_t column)>& place);

}  // namespace hippodrome
