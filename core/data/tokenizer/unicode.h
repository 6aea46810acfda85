#pragma once

#include <cstddef>
#include <string>
#include <string_view>

// What tokenizers ask of Unicode: characters in UTF-8, whether they are letters, and the composed form.
namespace hippodrome {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

// A character, or a byte that begins none.
struct Character {
  char32_t code = 0;
  size_t length = 1;   // bytes
  bool valid = false;  // false: one byte that is not UTF-8 (nor over-long, nor a surrogate), `code` is 0
};

// The first character of `text`, which is not empty.
Character first_character(std::string_view text);

bool is_utf8(std::string_view text);

void append_utf8(char32_t code, std::string& text);

// How many bytes of `text` come before a character that is begun and not ended. Text that arrives in pieces is shown up
// to there.
size_t complete_utf8(std::string_view text);

// What splits tell apart. Regular expressions write them \p{L} (general category L), \p{N} and \s (White_Space).
enum class CharacterKind { kLetter, kNumber, kSpace, kOther };
CharacterKind kind_of(const Character& character);

// Normalization form C; bytes that are not UTF-8 stay where they are.
std::string composed(std::string_view text);

}  // namespace hippodrome
