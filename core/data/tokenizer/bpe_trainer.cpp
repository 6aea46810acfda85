#include "core/data/tokenizer/bpe_trainer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <queue>
#include <tuple>
#include <unordered_map>

#include "core/data/tokenizer/byte_level.h"
#include "core/data/tokenizer/split.h"

namespace hippodrome {
namespace bpe_trainer_detail {
namespace {

struct Word {
  std::vector<int64_t> tokens;
  int64_t count;
};

class Trainer {
 public:
  explicit Trainer(const PieceCounts& counts) {
    for (int byte = 0; byte < 256; ++byte) id_of(std::string(1, static_cast<char>(byte)));
    for (const auto& [piece, count] : counts) {
      Word word{{}, count};
      for (const char byte : piece) word.tokens.push_back(static_cast<unsigned char>(byte));
      for (size_t i = 0; i + 1 < word.tokens.size(); ++i) {
        note(word.tokens[i], word.tokens[i + 1], word.count, words_.size());
      }
      words_.push_back(std::move(word));
    }
    offer_changed();
  }

  // The most frequent pair becomes one token; false where none occurs twice.
  bool merge(std::pair<std::string, std::string>& parts) {
    while (!candidates_.empty()) {
      const Candidate best = candidates_.top();
      candidates_.pop();
      if (counts_[best.pair] != best.count) continue;  // it has changed since, and was offered anew
      if (best.count < 2) return false;
      parts = {*best.left, *best.right};
      join(best.pair, id_of(parts.first + parts.second));
      return true;
    }
    return false;
  }

 private:
  struct Candidate {
    int64_t count;
    const std::string *left, *right;  // their bytes
    uint64_t pair;
    bool operator<(const Candidate& other) const {  // the first to merge is the greatest
      return std::tie(count, *other.left, *other.right) < std::tie(other.count, *left, *right);
    }
  };

  static uint64_t pair_of(int64_t left, int64_t right) {
    return static_cast<uint64_t>(left) << 32 | static_cast<uint64_t>(right);
  }

  int64_t id_of(const std::string& bytes) {
    const auto [found, is_new] = ids_.emplace(bytes, static_cast<int64_t>(tokens_.size()));
    if (is_new) tokens_.push_back(&found->first);
    return found->second;
  }

  // `occurrences` more of a pair, or fewer, in a word.
  void note(int64_t left, int64_t right, int64_t occurrences, size_t word) {
    const uint64_t pair = pair_of(left, right);
    counts_[pair] += occurrences;
    changed_.push_back(pair);
    if (occurrences > 0) words_of_[pair].push_back(word);
  }

  void join(uint64_t pair, int64_t made) {
    const auto left = static_cast<int64_t>(pair >> 32), right = static_cast<int64_t>(pair & 0xFFFFFFFF);
    const std::vector<size_t> words = std::move(words_of_[pair]);
    words_of_.erase(pair);
    // A word may be noted more than once, and may have lost the pair to an earlier merge.
    for (const size_t index : words) {
      Word& word = words_[index];
      const std::vector<int64_t>& tokens = word.tokens;
      std::vector<int64_t> joined;
      for (size_t i = 0; i < tokens.size(); ++i) {
        if (tokens[i] != left || i + 1 == tokens.size() || tokens[i + 1] != right) {
          joined.push_back(tokens[i]);
          continue;
        }
        if (!joined.empty()) {
          note(joined.back(), left, -word.count, index);
          note(joined.back(), made, word.count, index);
        }
        note(left, right, -word.count, index);
        if (i + 2 < tokens.size()) {
          note(right, tokens[i + 2], -word.count, index);
          note(made, tokens[i + 2], word.count, index);
        }
        joined.push_back(made);
        ++i;
      }
      word.tokens = std::move(joined);
    }
    offer_changed();
  }

  void offer_changed() {
    std::sort(changed_.begin(), changed_.end());
    changed_.erase(std::unique(changed_.begin(), changed_.end()), changed_.end());
    for (const uint64_t pair : changed_) {
      const int64_t count = counts_[pair];
      if (count > 0) candidates_.push({count, tokens_[pair >> 32], tokens_[pair & 0xFFFFFFFF], pair});
    }
    changed_.clear();
  }

  std::unordered_map<std::string, int64_t> ids_;
  std::vector<const std::string*> tokens_;  // keys of ids_, by id
  std::vector<Word> words_;
  std::unordered_map<uint64_t, int64_t> counts_;
  std::unordered_map<uint64_t, std::vector<size_t>> words_of_;  // at least those that hold the pair
  std::vector<uint64_t> changed_;
  std::priority_queue<Candidate> candidates_;
};

// As tokenizer.json writes bytes.
std::string entry_of(const std::string& bytes) {
  std::string entry;
  for (const char byte : bytes) entry += byte_level_character(static_cast<unsigned char>(byte));
  return entry;
}

}  // namespace
}  // namespace bpe_trainer_detail

void count_pieces(std::string_view text, PieceCounts& counts) {
  if (text.empty()) return;
  const std::string with_space = text[0] == ' ' ? std::string(text) : " " + std::string(text);
  for (std::string_view rest = with_space; !rest.empty();) {
    const std::string_view piece = first_piece(SplitRule::kGpt2, rest);
    ++counts[std::string(piece)];
    rest.remove_prefix(piece.size());
  }
}

std::vector<std::pair<std::string, std::string>> learn_byte_pairs(const PieceCounts& counts, int64_t merges) {
  bpe_trainer_detail::Trainer trainer(counts);
  std::vector<std::pair<std::string, std::string>> learned;
  std::pair<std::string, std::string> parts;
  while (static_cast<int64_t>(learned.size()) < merges && trainer.merge(parts)) learned.push_back(parts);
  return learned;
}

std::string byte_pair_json(const std::vector<std::pair<std::string, std::string>>& merges) {
  using bpe_trainer_detail::entry_of;
  nlohmann::json vocabulary = nlohmann::json::object(), list = nlohmann::json::array();
  for (int byte = 0; byte < 256; ++byte) vocabulary[byte_level_character(static_cast<unsigned char>(byte))] = byte;
  for (const auto& [left, right] : merges) {
    list.push_back({entry_of(left), entry_of(right)});
    vocabulary.emplace(entry_of(left) + entry_of(right), vocabulary.size());
  }
  const nlohmann::json split = {
      {"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}};
  return nlohmann::json({{"version", "1.0"},
                         {"truncation", nullptr},
                         {"padding", nullptr},
                         {"added_tokens", nlohmann::json::array()},
                         {"normalizer", nullptr},
                         {"pre_tokenizer", split},
                         {"post_processor", nullptr},
                         {"decoder", {{"type", "ByteLevel"}}},
                         {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", list}}}})
      .dump(1, ' ', true);
}

}  // namespace hippodrome
