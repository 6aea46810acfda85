#pragma once

#include <string>
#include <string_view>
#include <vector>

// Text as Python's str methods see it, on which the published scores rest. Bytes that are not UTF-8 are characters that
// equal only themselves.
namespace hippodrome {

// str.split(): what stands between white space, which is Unicode's and the separators U+001C to U+001F. Views into
// `text`.
std::vector<std::string_view> words_of(std::string_view text);

// str.rstrip().
std::string_view without_trailing_space(std::string_view text);

// The code points of `text`; the byte b, where it is not UTF-8, is 0x110000 + b.
std::u32string characters_of(std::string_view text);

}  // namespace hippodrome
