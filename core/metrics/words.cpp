#include "core/metrics/words.h"

#include "core/data/tokenizer/unicode.h"

namespace hippodrome {
namespace {

bool python_space(const Character& character) {
  return kind_of(character) == CharacterKind::kSpace || (character.code >= 0x1C && character.code <= 0x1F);
}

}  // namespace

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  size_t begin = 0;  // of the word, when one is open
  bool open = false;
  for (size_t at = 0; at < text.size();) {
    const Character character = first_character(text.substr(at));
    const bool space = python_space(character);
    if (open && space) words.push_back(text.substr(begin, at - begin));
    if (!open) begin = at;
    open = !space;
    at += character.length;
  }
  if (open) words.push_back(text.substr(begin));
  return words;
}

std::string_view without_trailing_space(std::string_view text) {
  size_t end = 0;
  for (size_t at = 0; at < text.size();) {
    const Character character = first_character(text.substr(at));
    at += character.length;
    if (!python_space(character)) end = at;
  }
  return text.substr(0, end);
}

std::u32string characters_of(std::string_view text) {
  std::u32string characters;
  characters.reserve(text.size());
  while (!text.empty()) {
    const Character character = first_character(text);
    characters += character.valid ? character.code : 0x110000 + static_cast<unsigned char>(text[0]);
    text.remove_prefix(character.length);
  }
  return characters;
}

}  // namespace hippodrome
