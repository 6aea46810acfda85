#include "core/metrics/tokenizer_13a.h"

#include <utility>

#include "absl/strings/str_replace.h"
#include "core/metrics/words.h"

namespace hippodrome {
namespace {

// The regular expressions tell characters of ASCII apart and keep all others, so they may as well go over bytes.
bool digit_13a(char byte) { return byte >= '0' && byte <= '9'; }
bool point_13a(char byte) { return byte == '.' || byte == ','; }
// [\{-\~\[-\` -\&\(-\+\:-\@\/]
bool symbol_13a(char byte) {
  return (byte >= '{' && byte <= '~') || (byte >= '[' && byte <= '`') || (byte >= ' ' && byte <= '&') ||
         (byte >= '(' && byte <= '+') || (byte >= ':' && byte <= '@') || byte == '/';
}

// Each pair of neighbours for which first(a) and second(b) hold becomes before + a + ' ' + b + after. As in re.sub,
// pairs are found from the left and do not overlap.
template <class First, class Second>
std::string spaced_pairs(const std::string& text, First first, Second second, const char* before, const char* after) {
  std::string spaced;
  for (size_t i = 0; i < text.size(); ++i) {
    if (i + 1 < text.size() && first(text[i]) && second(text[i + 1])) {
      spaced += before;
      spaced += text[i];
      spaced += ' ';
      spaced += text[++i];
      spaced += after;
    } else {
      spaced += text[i];
    }
  }
  return spaced;
}

}  // namespace

std::vector<std::string> words_13a(std::string_view sentence) {
  std::string text(without_trailing_space(sentence));
  // One after the other: what one makes, the next may find (&amp;lt; is <).
  for (const auto& [from, to] : {std::pair{"<skipped>", ""},
                                 {"-\n", ""},
                                 {"\n", " "},
                                 {"&quot;", "\""},
                                 {"&amp;", "&"},
                                 {"&lt;", "<"},
                                 {"&gt;", ">"}}) {
    text = absl::StrReplaceAll(text, {{from, to}});
  }

  std::string spaced = " ";
  for (const char byte : text) {
    if (symbol_13a(byte)) {
      spaced += {' ', byte, ' '};
    } else {
      spaced += byte;
    }
  }
  spaced += ' ';
  const auto no_digit = [](char byte) { return !digit_13a(byte); };
  spaced = spaced_pairs(spaced, no_digit, point_13a, "", " ");
  spaced = spaced_pairs(spaced, point_13a, no_digit, " ", "");
  spaced = spaced_pairs(
      spaced, digit_13a, [](char byte) { return byte == '-'; }, "", " ");
  const std::vector<std::string_view> words = words_of(spaced);
  return {words.begin(), words.end()};
}

}  // namespace hippodrome
