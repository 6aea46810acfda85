#include "core/data/tokenizer/sentencepiece_text.h"

#include "core/data/tokenizer/unicode.h"

namespace hippodrome {
namespace sentencepiece_text_detail {
namespace {

constexpr size_t kUnit = 4;  // bytes

uint32_t word(std::string_view bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 0; i < kUnit; ++i) value |= static_cast<uint32_t>(static_cast<unsigned char>(bytes[at + i])) << (8 * i);
  return value;
}

// A unit of the double array: the byte that leads to it, where its children are, and whether one of them is a value.
struct Unit {
  uint32_t bits;
  uint32_t offset() const { return bits >> 10 << ((bits & 0x200) >> 6); }
  uint32_t label() const { return bits & 0x800000FF; }
  bool has_value() const { return (bits >> 8 & 1) != 0; }
  uint32_t value() const { return bits & 0x7FFFFFFF; }
};

std::string_view trie_of(std::string_view charsmap) { return charsmap.substr(kUnit, word(charsmap, 0)); }

}  // namespace
}  // namespace sentencepiece_text_detail

int sentencepiece_byte(std::string_view piece) {
  for (int byte = 0; byte < 256; ++byte) {
    if (piece == sentencepiece_byte_name(static_cast<unsigned char>(byte))) return byte;
  }
  return -1;
}

std::string sentencepiece_byte_name(unsigned char byte) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  return std::string("<0x") + kDigits[byte >> 4] + kDigits[byte & 15] + ">";
}

bool SentencePieceText::valid_charsmap(std::string_view charsmap) {
  using namespace sentencepiece_text_detail;
  if (charsmap.size() <= kUnit) {
    return false;
  }
  const size_t trie = word(charsmap, 0);
  return trie >= kUnit && trie % kUnit == 0 && trie < charsmap.size() - kUnit && charsmap.back() == '\0';
}

SentencePieceText::Replacement SentencePieceText::mapped(std::string_view text) const {
  using namespace sentencepiece_text_detail;
  if (model_.charsmap.empty()) {
    return {};
  }
  const std::string_view trie = trie_of(model_.charsmap);
  const std::string_view replacements = std::string_view(model_.charsmap).substr(kUnit + trie.size());
  const size_t units = trie.size() / kUnit;
  Replacement longest;
  size_t node = Unit{word(trie, 0)}.offset();
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    node ^= byte;
    if (node >= units) break;
    const Unit unit{word(trie, node * kUnit)};
    if (unit.label() != byte) break;
    node ^= unit.offset();
    if (!unit.has_value() || node >= units) continue;
    const uint32_t place = Unit{word(trie, node * kUnit)}.value();
    if (place >= replacements.size()) continue;
    const std::string_view rest = replacements.substr(place);
    longest = {rest.substr(0, rest.find('\0')), i + 1};
  }
  return longest;
}

SentencePieceText::Replacement SentencePieceText::first(std::string_view text) const {
  if (const ByteTrie::Match match = user_defined_.longest(text); match.value >= 0) {
    return {text.substr(0, match.length), match.length};
  }
  if (const Replacement replacement = mapped(text); replacement.length > 0) {
    return replacement;
  }
  const Character character = first_character(text);
  return {character.valid ? text.substr(0, character.length) : kReplacementCharacter, character.length};
}

std::string SentencePieceText::prepare(std::string_view text) const {
  if (model_.remove_extra_whitespaces) {
    while (!text.empty()) {
      const Replacement replacement = first(text);
      if (replacement.text != " ") break;
      text.remove_prefix(replacement.length);
    }
  }
  if (text.empty()) {
    return "";
  }
  const std::string_view space = model_.escape_whitespaces ? kSentencePieceSpace : " ";
  std::string result;
  if (model_.add_dummy_prefix) result += space;
  bool after_space = model_.remove_extra_whitespaces;
  while (!text.empty()) {
    Replacement replacement = first(text);
    text.remove_prefix(replacement.length);
    while (after_space && replacement.text.starts_with(' ')) replacement.text.remove_prefix(1);
    for (const char byte : replacement.text) {
      if (byte == ' ') {
        result += space;
      } else {
        result += byte;
      }
    }
    if (!replacement.text.empty()) after_space = replacement.text.ends_with(' ');
    if (!model_.remove_extra_whitespaces) after_space = false;
  }
  if (model_.remove_extra_whitespaces) {
    while (result.ends_with(space)) result.resize(result.size() - space.size());
  }
  return result;
}

}  // namespace hippodrome
