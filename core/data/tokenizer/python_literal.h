#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace hippodrome {

// The bytes of a Python literal as repr() writes strings and bytes, strings in UTF-8: 'a\n', "it's", b'\xff', '\u2028'.
// Nothing where it is no such literal, or holds a surrogate, which has no UTF-8.
std::optional<std::string> python_literal(std::string_view literal);

}  // namespace hippodrome
