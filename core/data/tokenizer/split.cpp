#include "core/data/tokenizer/split.h"

#include "core/data/tokenizer/unicode.h"

namespace hippodrome {
namespace split_detail {
namespace {

struct Seen {
  char32_t code = 0;
  CharacterKind kind = CharacterKind::kOther;
  size_t length = 0;  // 0: the text is at its end
};

Seen look(std::string_view text, size_t at) {
  if (at >= text.size()) {
    return {};
  }
  const Character character = first_character(text.substr(at));
  return {character.code, kind_of(character), character.length};
}

bool is(const Seen& seen, CharacterKind kind) { return seen.length > 0 && seen.kind == kind; }
bool is_newline(const Seen& seen) { return seen.length > 0 && (seen.code == '\n' || seen.code == '\r'); }

// Where the run of characters of `kind` that begins at `at` ends.
size_t end_of(CharacterKind kind, std::string_view text, size_t at) {
  for (Seen seen = look(text, at); is(seen, kind); seen = look(text, at)) at += seen.length;
  return at;
}

// 's 't 're 've 'm 'll 'd: how long the contraction is that `text` begins with, or 0. Without regard to case, the long s
// (U+017F) is an s, too.
size_t contraction(std::string_view text, bool any_case) {
  if (text.size() < 2 || text[0] != '\'') {
    return 0;
  }
  const auto letter = [&](size_t at) {
    const char byte = at < text.size() ? text[at] : '\0';
    return any_case && byte >= 'A' && byte <= 'Z' ? static_cast<char>(byte - 'A' + 'a') : byte;
  };
  const char first = letter(1), second = letter(2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') {
    return 2;
  }
  if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l')) {
    return 3;
  }
  return any_case && text.substr(1).starts_with("\xC5\xBF") ? 3 : 0;
}

// \s+(?!\S)|\s+ : the last space of a run goes with the word behind it, except that a single one stays alone.
size_t space_run(std::string_view text) {
  size_t end = 0, last = 0;
  for (Seen seen = look(text, 0); is(seen, CharacterKind::kSpace); seen = look(text, end)) {
    last = end;
    end += seen.length;
  }
  return end == text.size() || last == 0 ? end : last;
}

// '(…)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
size_t gpt2(std::string_view text) {
  if (const size_t length = contraction(text, false); length > 0) {
    return length;
  }
  const size_t start = text[0] == ' ' ? 1 : 0;
  const Seen seen = look(text, start);
  if (seen.length > 0 && seen.kind != CharacterKind::kSpace) {
    return end_of(seen.kind, text, start);
  }
  return space_run(text);
}

// \s*[\r\n]+ : white space up to the last newline of the run; 0 where it has none.
size_t run_with_newline(std::string_view text) {
  size_t at = 0, end = 0;
  for (Seen seen = look(text, 0); is(seen, CharacterKind::kSpace); seen = look(text, at)) {
    at += seen.length;
    if (is_newline(seen)) end = at;
  }
  return end;
}

size_t llama3(std::string_view text) {
  if (const size_t length = contraction(text, true); length > 0) {
    return length;
  }
  const Seen first = look(text, 0);
  if (first.kind == CharacterKind::kLetter) {
    return end_of(CharacterKind::kLetter, text, 0);
  }
  const Seen second = look(text, first.length);
  if (first.kind != CharacterKind::kNumber && !is_newline(first) && is(second, CharacterKind::kLetter)) {
    return end_of(CharacterKind::kLetter, text, first.length);
  }
  if (first.kind == CharacterKind::kNumber) {
    size_t end = 0;
    for (int digits = 0; digits < 3 && is(look(text, end), CharacterKind::kNumber); ++digits) end += look(text, end).length;
    return end;
  }
  const size_t start = text[0] == ' ' ? 1 : 0;
  if (is(look(text, start), CharacterKind::kOther)) {
    size_t end = end_of(CharacterKind::kOther, text, start);
    while (end < text.size() && (text[end] == '\r' || text[end] == '\n')) ++end;
    return end;
  }
  if (const size_t end = run_with_newline(text); end > 0) {
    return end;
  }
  return space_run(text);
}

}  // namespace
}  // namespace split_detail

std::string_view first_piece(SplitRule rule, std::string_view text) {
  if (text.empty()) {
    return text;
  }
  switch (rule) {
    case SplitRule::kWhole:
      return text;
    case SplitRule::kGpt2:
      return text.substr(0, split_detail::gpt2(text));
    case SplitRule::kLlama3:
      return text.substr(0, split_detail::llama3(text));
  }
  return text;
}

}  // namespace hippodrome
