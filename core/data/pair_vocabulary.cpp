#include "core/data/pair_vocabulary.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "core/data/pairs.h"
#include "core/data/tokenizer/bpe_trainer.h"
#include "core/data/tokenizer/tokenizer_json.h"
#include "core/data/tokenizer/unicode.h"
#include "core/io/atomic_file.h"

namespace hippodrome {
namespace {
namespace pair_vocabulary {

// `bytes` as UTF-8: spaces as `space`, and `invalid(byte)` for bytes that are no characters.
template <class Invalid>
std::string shown(std::string_view bytes, std::string_view space, Invalid invalid) {
  std::string text;
  while (!bytes.empty()) {
    const Character character = first_character(bytes);
    if (!character.valid) {
      text += invalid(static_cast<unsigned char>(bytes[0]));
    } else if (bytes[0] == ' ') {
      text += space;
    } else {
      text += bytes.substr(0, character.length);
    }
    bytes.remove_prefix(character.length);
  }
  return text;
}

std::string hexadecimal(unsigned char byte) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  return {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
}

}  // namespace pair_vocabulary
}  // namespace

PairVocabulary::PairVocabulary(std::unique_ptr<Tokenizer> tokenizer) : tokenizer_(std::move(tokenizer)) {
  for (int64_t id = 0; id < tokenizer_->vocabulary(); ++id) tokens_.push_back(tokenizer_->token(id));
  std::string probe;
  for (const int64_t id : tokenizer_->encode("a")) probe += tokenizer_->token(id);
  prefix_space_ = probe.starts_with(' ');
}

bool PairVocabulary::holds(int64_t id) const { return id >= kFirstSymbol && id < size(); }

std::vector<int64_t> PairVocabulary::encode(std::string_view text) const {
  std::vector<int64_t> ids = tokenizer_->encode(text);
  for (int64_t& id : ids) id += kFirstSymbol;
  return ids;
}

std::string PairVocabulary::text(const std::vector<int64_t>& ids) const {
  std::string bytes;
  for (const int64_t id : ids) {
    if (holds(id)) bytes += tokens_[static_cast<size_t>(id - kFirstSymbol)];
  }
  if (prefix_space_ && bytes.starts_with(' ')) bytes.erase(0, 1);
  return pair_vocabulary::shown(bytes, " ", [](unsigned char) { return kReplacementCharacter; });
}

int64_t PairVocabulary::bytes(const std::vector<int64_t>& ids) const {
  int64_t count = prefix_space_ && !ids.empty() ? -1 : 0;
  for (const int64_t id : ids)
    count += holds(id) ? static_cast<int64_t>(tokens_[static_cast<size_t>(id - kFirstSymbol)].size()) : 0;
  return count;
}

std::vector<std::string> PairVocabulary::labels(const std::vector<int64_t>& ids) const {
  return labels_of(ids, [this](int64_t id) {
    if (!holds(id)) return std::to_string(id);
    return pair_vocabulary::shown(tokens_[static_cast<size_t>(id - kFirstSymbol)], "\xE2\x96\x81",
                                  pair_vocabulary::hexadecimal);
  });
}

absl::StatusOr<std::unique_ptr<Tokenizer>> byte_pairs_of(const std::vector<Sentences>& pairs, int64_t merges,
                                                         const std::string& file) {
  std::error_code ignored;
  if (!file.empty() && std::filesystem::exists(file, ignored)) {
    return load_tokenizer(file);
  }
  PieceCounts counts;
  for (const Sentences& pair : pairs) {
    count_pieces(pair.source, counts);
    count_pieces(pair.target, counts);
  }
  const std::string json = byte_pair_json(learn_byte_pairs(counts, merges));
  if (!file.empty()) {
    if (!file.ends_with(".json")) {
      return absl::InvalidArgumentError("tokenizer = \"" + file +
                                        "\" does not exist, and is no name of a .json to write: end it in .json");
    }
    RETURN_IF_ERROR(write_file(file, json));
  }
  return parse_tokenizer_json(json, file.empty() ? "learned byte pairs" : file);
}

}  // namespace hippodrome
