#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/data/tokenizer/tokenizer.h"

// SentencePiece models (Kudo & Richardson 2018, arXiv 1808.06226), read and run by code of our own: the library exports
// symbols of the names that LibTorch's own have (FLAGS_minloglevel), with other types, so one process cannot hold both.
namespace hippodrome {

struct SentencePieceModel {
  enum class Kind { kUnigram = 1, kBytePairs = 2 };
  enum class Type { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };
  struct Piece {
    std::string text;  // UTF-8, U+2581 where a space was
    float score = 0.0f;
    Type type = Type::kNormal;
  };

  Kind kind = Kind::kUnigram;
  std::vector<Piece> pieces;  // by id
  bool byte_fallback = false;
  int64_t begin = 1, end = 2;  // ids of the tokens that begin and end a text; -1: none
  std::string unknown_text = " \xE2\x81\x87 ";  // what the unknown token decodes to

  // How text is prepared.
  std::string charsmap;  // a trie of replacements and what replaces (sentencepiece_text.h); empty: none
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;

  SpecialTokens special;
};

// A serialized ModelProto. Models of words or characters, or that put the space behind words, are Unimplemented; what is
// malformed is DataLoss. Errors begin with `name`.
absl::StatusOr<SentencePieceModel> parse_sentencepiece(std::string_view bytes, const std::string& name);

// Takes from a tokenizer_config.json whether texts are framed: add_bos_token and add_eos_token (false where absent).
absl::Status read_sentencepiece_frame(std::string_view json, const std::string& name, SentencePieceModel& model);

std::unique_ptr<Tokenizer> sentencepiece_tokenizer(SentencePieceModel model);

}  // namespace hippodrome
