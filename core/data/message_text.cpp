#include "core/data/message_text.h"

#include <algorithm>

namespace hippodrome {
namespace {
namespace message_text {

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
// Of the bytes of other alphabets, all count as parts of words.
bool is_of_word(char c) {
  return is_letter(c) || (c >= '0' && c <= '9') || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}

bool has_entity(std::string_view text) {
  for (size_t at = text.find('&'); at != std::string_view::npos; at = text.find('&', at + 1)) {
    size_t end = at + 1;
    while (end < text.size() && (is_of_word(text[end]) || text[end] == '#')) ++end;
    if (end > at + 1 && end < text.size() && text[end] == ';') return true;
  }
  return false;
}

bool has_markup(std::string_view text) {
  const bool control = std::any_of(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) < 0x20 && !is_space(c)) || c == 0x7F;
  });
  return control || text.find_first_of("%{}<>$|") != std::string_view::npos || has_entity(text);
}

// The word around the byte at `at`, which is part of it.
std::string_view word_at(std::string_view text, size_t at) {
  size_t begin = at, end = at + 1;
  while (begin > 0 && is_of_word(text[begin - 1])) --begin;
  while (end < text.size() && is_of_word(text[end])) ++end;
  return text.substr(begin, end - begin);
}

// Where the only `sign` of `text` stands, before a letter or a digit; npos where there is none or more than one.
size_t mnemonic_at(std::string_view text, char sign) {
  const size_t at = text.find(sign);
  if (at == std::string_view::npos || text.find(sign, at + 1) != std::string_view::npos || at + 1 == text.size() ||
      text[at + 1] == '_' || !is_of_word(text[at + 1])) {
    return std::string_view::npos;
  }
  return at;
}

bool begins_word(std::string_view text, size_t at) {
  return at != std::string_view::npos && (at == 0 || !is_of_word(text[at - 1]));
}

// Takes out the sign at `at`, or all of "(_F)", which alphabets without the letter put behind the text.
void remove_mnemonic(std::string& text, size_t at) {
  if (at > 0 && text[at - 1] == '(' && at + 2 < text.size() && text[at + 2] == ')') {
    text.erase(at - 1, 4);
  } else {
    text.erase(at, 1);
  }
}

void remove_mnemonics(std::string& source, std::string& target) {
  for (const char sign : {'_', '&'}) {
    const size_t in_source = mnemonic_at(source, sign), in_target = mnemonic_at(target, sign);
    // Within a word that both sides have, it is a name's: LC_ALL, R&D.
    const bool differ = in_source != std::string::npos && in_target != std::string::npos &&
                        word_at(source, in_source) != word_at(target, in_target);
    if (begins_word(source, in_source) || differ) remove_mnemonic(source, in_source);
    if (begins_word(target, in_target) || differ) remove_mnemonic(target, in_target);
  }
}

void remove_ellipsis(std::string& text) {
  for (const std::string_view end : {"...", "\xE2\x80\xA6"}) {
    if (text.ends_with(end)) text.resize(text.size() - end.size());
  }
  while (text.ends_with(' ')) text.pop_back();
}

}  // namespace message_text
}  // namespace

std::string squeezed(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (!message_text::is_space(c)) {
      result += c;
    } else if (!result.empty() && result.back() != ' ') {
      result += ' ';
    }
  }
  if (result.ends_with(' ')) result.pop_back();
  return result;
}

std::optional<Sentences> cleaned(std::string_view original, std::string_view translation) {
  using namespace message_text;
  if (has_markup(original) || has_markup(translation)) return std::nullopt;
  Sentences pair{squeezed(original), squeezed(translation)};
  remove_mnemonics(pair.source, pair.target);
  remove_ellipsis(pair.source);
  remove_ellipsis(pair.target);
  pair = {squeezed(pair.source), squeezed(pair.target)};
  const bool said = std::any_of(pair.source.begin(), pair.source.end(), is_letter);
  if (!said || pair.target.empty() || pair.source == pair.target) return std::nullopt;
  return pair;
}

}  // namespace hippodrome
