#include "core/data/tokenizer/rwkv_vocabulary.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <unordered_map>

#include "core/data/tokenizer/byte_trie.h"
#include "core/data/tokenizer/python_literal.h"
#include "core/data/tokenizer/unicode.h"

namespace hippodrome {
namespace rwkv_vocabulary_detail {
namespace {

constexpr const char* kEndOfText = "<|endoftext|>";

struct Vocabulary {
  std::unordered_map<int64_t, std::string> tokens;
  ByteTrie trie;
};

class RwkvTokenizer final : public Tokenizer {
 public:
  explicit RwkvTokenizer(Vocabulary vocabulary) : vocabulary_(std::move(vocabulary)) {
    special_.ids.emplace(kEndOfText, 0);
    for (const auto& [id, bytes] : vocabulary_.tokens) size_ = std::max(size_, id + 1);
  }

  std::string description() const override {
    return "RWKV's greedy vocabulary of " + std::to_string(vocabulary_.tokens.size()) + " tokens";
  }
  int64_t vocabulary() const override { return size_; }
  const SpecialTokens& special_tokens() const override { return special_; }

  std::vector<int64_t> encode(std::string_view text) const override {
    std::vector<int64_t> ids;
    while (!text.empty()) {
      const ByteTrie::Match match = vocabulary_.trie.longest(text);  // there always is one: each byte is a token
      ids.push_back(match.value);
      text.remove_prefix(match.length);
    }
    return ids;
  }

  std::string token(int64_t id) const override {
    const auto found = vocabulary_.tokens.find(id);
    return found != vocabulary_.tokens.end() ? found->second : id == 0 ? kEndOfText : std::string(kReplacementCharacter);
  }

 private:
  Vocabulary vocabulary_;
  SpecialTokens special_;
  int64_t size_ = 0;
};

bool read_number(std::string_view text, int64_t& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && number >= 0 &&
         number <= std::numeric_limits<int32_t>::max();
}

// One line; the error is what is wrong with it.
absl::Status read_line(std::string_view line, Vocabulary& vocabulary) {
  const size_t first = line.find(' '), last = line.rfind(' ');
  int64_t id = 0, length = 0;
  if (first == std::string_view::npos || first == last || !read_number(line.substr(0, first), id) || id == 0 ||
      !read_number(line.substr(last + 1), length)) {
    return absl::DataLossError("expected an id from 1, a Python literal and a length, as in: 257 '\\t\\t' 2");
  }
  std::optional<std::string> bytes = python_literal(line.substr(first + 1, last - first - 1));
  if (!bytes || bytes->empty()) {
    return absl::DataLossError("what stands between id and length is no Python literal of a string or of bytes, or empty");
  }
  if (static_cast<int64_t>(bytes->size()) != length) {
    return absl::DataLossError("the token has " + std::to_string(bytes->size()) + " bytes, not " + std::to_string(length));
  }
  // Of two ids with the same bytes the first is what text becomes.
  vocabulary.trie.insert(*bytes, id);
  if (!vocabulary.tokens.emplace(id, *std::move(bytes)).second) {
    return absl::DataLossError("the id " + std::to_string(id) + " is taken by an earlier line");
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace rwkv_vocabulary_detail

absl::StatusOr<std::unique_ptr<Tokenizer>> parse_rwkv_vocabulary(std::string_view text, const std::string& name) {
  using namespace rwkv_vocabulary_detail;
  Vocabulary vocabulary;
  for (int64_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    if (const absl::Status status = read_line(line, vocabulary); !status.ok()) {
      return absl::DataLossError(name + ":" + std::to_string(number) + ": " + std::string(status.message()));
    }
  }
  for (int byte = 0; byte < 256; ++byte) {
    const char character = static_cast<char>(byte);
    if (vocabulary.trie.longest({&character, 1}).value < 0) {
      return absl::DataLossError(name + ": the vocabulary has no token for the byte " + std::to_string(byte) +
                                 ", so it cannot take every text; each of the 256 bytes needs one");
    }
  }
  return std::make_unique<RwkvTokenizer>(std::move(vocabulary));
}

}  // namespace hippodrome
