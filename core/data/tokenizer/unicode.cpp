#include "core/data/tokenizer/unicode.h"

#include <utf8proc.h>

#include <cstdlib>
#include <new>

namespace hippodrome {
namespace unicode_detail {
namespace {

bool continues(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

// How many bytes a character that begins with this byte has; 0: none begins with it.
size_t announced_length(char byte) {
  const auto first = static_cast<unsigned char>(byte);
  return first < 0x80 ? 1 : first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
}

void append_composed(std::string_view valid, std::string& text) {
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(valid.data()), static_cast<utf8proc_ssize_t>(valid.size()),
                   &result, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  // The text is valid, so memory is all that can be wanting.
  if (size < 0) throw std::bad_alloc();
  text.append(reinterpret_cast<const char*>(result), static_cast<size_t>(size));
  std::free(result);
}

}  // namespace
}  // namespace unicode_detail

Character first_character(std::string_view text) {
  const size_t length = unicode_detail::announced_length(text[0]);
  if (length == 0 || length > text.size()) {
    return {};
  }
  if (length == 1) {
    return {static_cast<char32_t>(text[0]), 1, true};
  }
  char32_t code = static_cast<unsigned char>(text[0]) & (0xFFu >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if (!unicode_detail::continues(text[i])) {
      return {};
    }
    code = code << 6 | (static_cast<unsigned char>(text[i]) & 0x3F);
  }
  const bool over_long = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  if (over_long || (code >= 0xD800 && code < 0xE000) || code > 0x10FFFF) {
    return {};
  }
  return {code, length, true};
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const Character character = first_character(text);
    if (!character.valid) return false;
    text.remove_prefix(character.length);
  }
  return true;
}

void append_utf8(char32_t code, std::string& text) {
  const auto add = [&text](char32_t byte) { text += static_cast<char>(byte); };
  if (code < 0x80) {
    add(code);
  } else if (code < 0x800) {
    add(0xC0 | code >> 6);
    add(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    add(0xE0 | code >> 12);
    add(0x80 | (code >> 6 & 0x3F));
    add(0x80 | (code & 0x3F));
  } else {
    add(0xF0 | code >> 18);
    add(0x80 | (code >> 12 & 0x3F));
    add(0x80 | (code >> 6 & 0x3F));
    add(0x80 | (code & 0x3F));
  }
}

size_t complete_utf8(std::string_view text) {
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const char byte = text[text.size() - back];
    if (unicode_detail::continues(byte)) continue;
    return unicode_detail::announced_length(byte) > back ? text.size() - back : text.size();
  }
  return text.size();
}

CharacterKind kind_of(const Character& character) {
  if (!character.valid) {
    return CharacterKind::kOther;
  }
  // The white space among the control characters.
  if ((character.code >= 9 && character.code <= 13) || character.code == 0x85) {
    return CharacterKind::kSpace;
  }
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(character.code))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return CharacterKind::kLetter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return CharacterKind::kNumber;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return CharacterKind::kSpace;
    default:
      return CharacterKind::kOther;
  }
}

std::string composed(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  size_t begin = 0;  // of the valid text that is not yet in `result`
  for (size_t at = 0; at < text.size();) {
    const Character character = first_character(text.substr(at));
    if (!character.valid) {
      unicode_detail::append_composed(text.substr(begin, at - begin), result);
      result += text[at];
      begin = at + 1;
    }
    at += character.length;
  }
  unicode_detail::append_composed(text.substr(begin), result);
  return result;
}

}  // namespace hippodrome
