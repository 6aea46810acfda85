#pragma once

#include <string>
#include <string_view>

#include "core/data/tokenizer/byte_trie.h"
#include "core/data/tokenizer/sentencepiece.h"

namespace hippodrome {

inline constexpr std::string_view kSentencePieceSpace = "\xE2\x96\x81";  // U+2581

// The byte that a piece like "<0x0A>" stands for, or -1.
int sentencepiece_byte(std::string_view piece);
std::string sentencepiece_byte_name(unsigned char byte);

// How SentencePiece prepares text before it is taken apart: pieces defined by the user stay, the longest replacement of the
// charsmap is made, what is not UTF-8 becomes U+FFFD, spaces are reduced and escaped as the model says.
class SentencePieceText {
 public:
  // `model` must outlive this; `user_defined` holds its pieces of that type.
  SentencePieceText(const SentencePieceModel& model, const ByteTrie& user_defined)
      : model_(model), user_defined_(user_defined) {}

  std::string prepare(std::string_view text) const;

  // A charsmap is the length of the trie (32 bits), a double-array trie of 32-bit units (Yata et al. 2007, as the library
  // Darts-clone lays them out) whose values are places in what follows: replacements, each ended by a zero byte.
  static bool valid_charsmap(std::string_view charsmap);

 private:
  struct Replacement {
    std::string_view text;
    size_t length = 0;  // of what is replaced
  };
  Replacement first(std::string_view text) const;
  Replacement mapped(std::string_view text) const;  // length 0: none

  const SentencePieceModel& model_;
  const ByteTrie& user_defined_;
};

}  // namespace hippodrome
