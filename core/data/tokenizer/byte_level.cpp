#include "core/data/tokenizer/byte_level.h"

#include <algorithm>

#include "core/data/tokenizer/unicode.h"

namespace hippodrome {
namespace byte_level_detail {
namespace {

// By byte: the character that stands for it.
std::array<char32_t, 256> characters() {
  std::array<char32_t, 256> codes{};
  char32_t next = 0x100;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    codes[byte] = printable ? byte : next++;
  }
  return codes;
}

// Calls on_token(id) for each literal token in `text` and on_text(stretch) for what lies between.
template <class OnToken, class OnText>
void separate(const ByteTrie& literal, std::string_view text, OnToken on_token, OnText on_text) {
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const ByteTrie::Match match = literal.longest(text.substr(at));
    if (match.value < 0) {
      ++at;
      continue;
    }
    if (at > begin) on_text(text.substr(begin, at - begin));
    on_token(match.value);
    begin = at += match.length;
  }
  if (begin < text.size()) on_text(text.substr(begin));
}

class ByteLevelTokenizer final : public Tokenizer {
 public:
  explicit ByteLevelTokenizer(ByteLevelModel model) : model_(std::move(model)) {
    for (const auto& [id, bytes] : model_.tokens) vocabulary_ = std::max(vocabulary_, id + 1);
  }

  std::string description() const override {
    return "byte-level BPE with " + std::to_string(model_.tokens.size()) + " tokens";
  }
  int64_t vocabulary() const override { return vocabulary_; }
  const SpecialTokens& special_tokens() const override { return model_.special; }

  std::vector<int64_t> encode(std::string_view text) const override {
    std::vector<int64_t> ids;
    const auto add = [&ids](int64_t id) { ids.push_back(id); };
    separate(model_.literal, text, add, [&](std::string_view stretch) {
      const std::string normal = model_.compose ? composed(stretch) : std::string(stretch);
      separate(model_.literal_composed, normal, add, [&](std::string_view plain) { encode_plain(plain, ids); });
    });
    return ids;
  }

  std::string token(int64_t id) const override {
    const auto found = model_.tokens.find(id);
    return found == model_.tokens.end() ? std::string(kReplacementCharacter) : found->second;
  }

 private:
  void encode_plain(std::string_view text, std::vector<int64_t>& ids) const {
    std::string with_space;
    if (model_.prefix_space && text[0] != ' ') {
      with_space = " " + std::string(text);
      text = with_space;
    }
    while (!text.empty()) {
      const std::string_view piece = first_piece(model_.split, text);
      model_.pairs.encode(piece, ids);
      text.remove_prefix(piece.size());
    }
  }

  ByteLevelModel model_;
  int64_t vocabulary_ = 0;
};

}  // namespace
}  // namespace byte_level_detail

std::unique_ptr<Tokenizer> byte_level_tokenizer(ByteLevelModel model) {
  return std::make_unique<byte_level_detail::ByteLevelTokenizer>(std::move(model));
}

std::string byte_level_character(unsigned char byte) {
  static const std::array<char32_t, 256> codes = byte_level_detail::characters();
  std::string text;
  append_utf8(codes[byte], text);
  return text;
}

bool byte_level_bytes(std::string_view entry, std::string& bytes) {
  static const std::unordered_map<char32_t, char> byte_of = [] {
    std::unordered_map<char32_t, char> map;
    const std::array<char32_t, 256> codes = byte_level_detail::characters();
    for (size_t byte = 0; byte < codes.size(); ++byte) map.emplace(codes[byte], static_cast<char>(byte));
    return map;
  }();
  bytes.clear();
  while (!entry.empty()) {
    const Character character = first_character(entry);
    const auto found = byte_of.find(character.code);
    if (!character.valid || found == byte_of.end()) {
      return false;
    }
    bytes += found->second;
    entry.remove_prefix(character.length);
  }
  return true;
}

}  // namespace hippodrome
