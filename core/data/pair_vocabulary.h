#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "core/data/message_text.h"
#include "core/data/tokenizer/tokenizer.h"

namespace hippodrome {

// A tokenizer's tokens as the symbols of a task of pairs: ids from 2 on (pairs.h), and how they are shown.
class PairVocabulary {
 public:
  explicit PairVocabulary(std::unique_ptr<Tokenizer> tokenizer);

  int64_t size() const { return static_cast<int64_t>(tokens_.size()) + 2; }
  std::string description() const { return tokenizer_->description(); }
  std::vector<int64_t> encode(std::string_view text) const;
  // In UTF-8: what is none becomes U+FFFD. End and begin add nothing.
  std::string text(const std::vector<int64_t>& ids) const;
  // Bytes of the text that was encoded as `ids`.
  int64_t bytes(const std::vector<int64_t>& ids) const;
  // One label an id, in UTF-8: spaces as "▁", bytes that are no characters as "\xC3".
  std::vector<std::string> labels(const std::vector<int64_t>& ids) const;

 private:
  // Whether an id is that of a token.
  bool holds(int64_t id) const;

  std::unique_ptr<Tokenizer> tokenizer_;
  std::vector<std::string> tokens_;  // bytes by id - 2
  bool prefix_space_;                // encoding puts a space before a text
};

// Byte pairs, at most `merges`, learned from both sides of `pairs`. Where `file` names a tokenizer that exists, that is
// read instead; where it names none yet, what is learned is written there.
absl::StatusOr<std::unique_ptr<Tokenizer>> byte_pairs_of(const std::vector<Sentences>& pairs, int64_t merges,
                                                         const std::string& file);

}  // namespace hippodrome
