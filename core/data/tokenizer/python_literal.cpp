#include "core/data/tokenizer/python_literal.h"

#include "core/data/tokenizer/unicode.h"

namespace hippodrome {
namespace python_literal_detail {
namespace {

// Takes `digits` hexadecimal digits off `text`; false where they are not there.
bool take_hex(std::string_view& text, size_t digits, char32_t& code) {
  if (text.size() < digits) {
    return false;
  }
  code = 0;
  for (const char digit : text.substr(0, digits)) {
    const int value = digit >= '0' && digit <= '9'   ? digit - '0'
                      : digit >= 'a' && digit <= 'f' ? digit - 'a' + 10
                      : digit >= 'A' && digit <= 'F' ? digit - 'A' + 10
                                                     : -1;
    if (value < 0) return false;
    code = code << 4 | static_cast<char32_t>(value);
  }
  text.remove_prefix(digits);
  return true;
}

// Takes what follows a backslash off `text`.
bool take_escape(std::string_view& text, bool bytes, std::string& result) {
  if (text.empty()) {
    return false;
  }
  const char kind = text[0];
  text.remove_prefix(1);
  constexpr std::string_view kNames = "abfnrtv\\'\"", kValues = "\a\b\f\n\r\t\v\\'\"";
  if (const size_t simple = kNames.find(kind); simple != std::string_view::npos) {
    result += kValues[simple];
    return true;
  }
  char32_t code = 0;
  const size_t digits = kind == 'x' ? 2 : kind == 'u' && !bytes ? 4 : kind == 'U' && !bytes ? 8 : 0;
  if (digits == 0 || !take_hex(text, digits, code) || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
    return false;
  }
  if (bytes) {
    result += static_cast<char>(code);
  } else {
    append_utf8(code, result);
  }
  return true;
}

}  // namespace
}  // namespace python_literal_detail

std::optional<std::string> python_literal(std::string_view literal) {
  const bool bytes = literal.starts_with('b');
  if (bytes) literal.remove_prefix(1);
  if (literal.size() < 2 || (literal[0] != '\'' && literal[0] != '"') || literal.back() != literal[0]) {
    return std::nullopt;
  }
  const char quote = literal[0];
  std::string_view rest = literal.substr(1, literal.size() - 2);
  std::string result;
  while (!rest.empty()) {
    const Character character = first_character(rest);
    if (!character.valid || rest[0] == quote || (bytes && character.length > 1)) {
      return std::nullopt;
    }
    const std::string_view text = rest.substr(0, character.length);
    rest.remove_prefix(character.length);
    if (text != "\\") {
      result += text;
    } else if (!python_literal_detail::take_escape(rest, bytes, result)) {
      return std::nullopt;
    }
  }
  return result;
}

}  // namespace hippodrome
