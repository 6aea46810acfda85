#include "core/io/toml_guard.h"

#include <algorithm>

namespace hippodrome {
namespace toml_guard_detail {
namespace {

// Recursion over the tree stays shallow within these.
constexpr int kDeepestBrackets = 32;
constexpr int kLongestKey = 32;  // in parts: a.b.c has three

using PlaceText = std::function<std::string(size_t line, size_t column)>;

class TomlGuard {
 public:
  TomlGuard(std::string_view text, const PlaceText& place) : text_(text), place_text_(place) {}

  absl::Status check() {
    int brackets = 0, dots = 0;
    bool line_begins = true, header = false;
    // '=', ',' or '[' when a value, or after a comma a key, comes next.
    char expecting = '\0';
    if (text_.starts_with("\xEF\xBB\xBF")) {
      at_ = 3;  // a byte order mark
    }
    while (at_ < text_.size()) {
      const char character = text_[at_];
      if (expecting != '\0' && (character == '}' || character == ',' ||
                                (expecting == '=' && (character == ']' || character == '#' || character == '\n')))) {
        return error("a value is missing here");
      }
      if (character == '"' || character == '\'') {
        RETURN_IF_ERROR(skip_string(character));
        line_begins = false;
        expecting = '\0';
        continue;
      }
      if (character == '#') {
        at_ = std::min(text_.find_first_of("\n\v\f\r", at_), text_.size());
        continue;
      }
      if (static_cast<unsigned char>(character) >= 0x80) {
        return error("a character that is not ASCII must stand in quotes");
      }
      if (character == '[' && line_begins && brackets == 0) {
        RETURN_IF_ERROR(check_header());
        header = true;
      }
      if (expecting != '\0' && is_date(text_.substr(at_, text_.find_first_of(" \t\r\n,]}#=", at_) - at_))) {
        return absl::UnimplementedError(place() + ": dates and times have no use in a recipe; write it in quotes");
      }
      if (std::string_view(" \t\r\n").find(character) == std::string_view::npos) {
        expecting = !header && (character == '=' || character == ',' || character == '[') ? character : '\0';
      }
      header = header && character != '\n';
      line_begins = character == '\n' || (line_begins && (character == ' ' || character == '\t'));
      if (character == '[' || character == '{') {
        ++brackets;
      } else if (character == ']' || character == '}') {
        brackets = std::max(brackets - 1, 0);
      }
      if (character == '.') {
        ++dots;
      } else if (std::string_view("\n=,[]{}").find(character) != std::string_view::npos) {
        dots = 0;
      }
      if (brackets > kDeepestBrackets || dots >= kLongestKey) {
        return error("this is nested too deeply: at most " + std::to_string(kDeepestBrackets) +
                     " brackets inside each other and " + std::to_string(kLongestKey) + " parts of a dotted key are read");
      }
      advance();
    }
    return absl::OkStatus();
  }

 private:
  void advance() {
    if (text_[at_++] == '\n') {
      ++line_;
      line_start_ = at_;
    }
  }

  std::string place() const { return place_text_(line_, at_ - line_start_ + 1); }

  absl::Status error(const std::string& message) const {
    return absl::InvalidArgumentError(place() + ": " + message);
  }

  // Of an unquoted value: 2026-01-02, 10:20 and the like, but not 1e-5 or -3.
  static bool is_date(std::string_view value) {
    if (value.empty() || value[0] < '0' || value[0] > '9') {
      return false;
    }
    const size_t dash = value.find('-');
    return value.find(':') != std::string_view::npos ||
           (dash != std::string_view::npos && value[dash - 1] != 'e' && value[dash - 1] != 'E');
  }

  absl::Status check_header() const {
    size_t next = text_.find_first_not_of(" \t", at_ + 1);
    if (next == at_ + 1 && text_[next] == '[') {
      next = text_.find_first_not_of(" \t", next + 1);
    }
    // An empty header, "[]", is left to the parser.
    constexpr std::string_view kExpected = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-\"']";
    if (next < text_.size() && kExpected.find(text_[next]) == std::string_view::npos) {
      return error("a table header must begin with a name");
    }
    return absl::OkStatus();
  }

  absl::Status skip_string(char quote) {
    const std::string three(3, quote);
    const bool literal = quote == '\'', multiline = text_.substr(at_, 3) == three;
    at_ += multiline ? 3 : 1;
    while (at_ < text_.size()) {
      const char character = text_[at_];
      if (character == '\n' && !multiline) {
        break;  // a syntax error, which the parser names
      }
      if (character == quote && !multiline) {
        ++at_;
        break;
      }
      if (character == quote && text_.substr(at_, 3) == three) {
        at_ += 3;
        // Up to two quotes that stand just before the closing three belong to the string.
        for (int extra = 0; extra < 2 && at_ < text_.size() && text_[at_] == quote; ++extra) {
          ++at_;
        }
        break;
      }
      advance();
      if (character == '\\' && !literal && at_ < text_.size()) {
        const size_t next = multiline ? text_.find_first_not_of(" \t\r\n", at_) : at_;
        if (next < text_.size() && static_cast<unsigned char>(text_[next]) >= 0x80) {
          return error("what follows a backslash, or a line that ends in one, must begin with an ASCII character");
        }
        if (text_[at_] == quote || text_[at_] == '\\') {
          ++at_;
        }
      }
    }
    return absl::OkStatus();
  }

  std::string_view text_;
  const PlaceText& place_text_;
  size_t at_ = 0;
  size_t line_ = 1;
  size_t line_start_ = 0;
};

}  // namespace
}  // namespace toml_guard_detail

absl::Status guard_toml(std::string_view text, const std::function<std::string(size_t line, size_t column)>& place) {
  return toml_guard_detail::TomlGuard(text, place).check();
}

}  // namespace hippodrome
