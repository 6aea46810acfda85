#pragma once

#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/data/tokenizer/byte_trie.h"
#include "core/data/tokenizer/sentencepiece.h"

namespace hippodrome {

// Takes prepared text apart into pieces.
class SentencePieceSearch {
 public:
  struct Found {
    std::string_view text;
    int64_t id;
  };

  // `model` has been checked by its reader and must outlive this.
  explicit SentencePieceSearch(const SentencePieceModel& model);

  std::vector<Found> run(std::string_view prepared) const {
    return model_.kind == SentencePieceModel::Kind::kUnigram ? unigrams(prepared) : byte_pairs(prepared);
  }
  int64_t unknown() const { return unknown_; }
  const ByteTrie& user_defined() const { return user_defined_; }

 private:
  // Adjacent pieces merge where the whole is a piece, the best score first, the leftmost of equals.
  std::vector<Found> byte_pairs(std::string_view text) const;
  // The sequence of pieces with the greatest sum of scores (Viterbi).
  std::vector<Found> unigrams(std::string_view text) const;

  using Splits = std::unordered_map<std::string_view, std::pair<std::string_view, std::string_view>>;
  // A piece that only serves merging ("unused") falls back to what it was merged from.
  void add(std::string_view piece, const Splits& splits, std::vector<Found>& found) const;
  bool has_type(int64_t id, SentencePieceModel::Type type) const {
    return model_.pieces[static_cast<size_t>(id)].type == type;
  }

  const SentencePieceModel& model_;
  std::unordered_map<std::string_view, int64_t> ordinary_;  // normal, user-defined and unused pieces
  std::unordered_map<std::string_view, int64_t> reserved_;  // all others
  ByteTrie trie_;                                           // of the ordinary ones
  ByteTrie user_defined_;
  int64_t unknown_ = 0;
  float least_score_ = 0.0f, greatest_score_ = 0.0f;  // of normal pieces
};

}  // namespace hippodrome
