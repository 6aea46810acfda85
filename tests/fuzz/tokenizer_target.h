#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "core/data/tokenizer/rwkv_vocabulary.h"
#include "core/data/tokenizer/sentencepiece.h"
#include "core/data/tokenizer/tokenizer_json.h"
#include "tests/fuzz/check.h"

namespace hippodrome {

// Uses a tokenizer that was read: on words, on odd characters, and on the beginning of its own file.
inline void fuzz_tokenizer(const absl::StatusOr<std::unique_ptr<Tokenizer>>& tokenizer, const std::string& name,
                           std::string_view file, bool exact) {
  if (!tokenizer.ok()) {
    fuzz_check_sentence(std::string(tokenizer.status().message()), name + ":");
    return;
  }
  const std::string text = "the cat's 12345  \n\n\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x99\x82\xCC\x81\xFF<|end|> ab" + std::string(file.substr(0, 300));
  const std::vector<int64_t> ids = (*tokenizer)->encode_framed(text);
  for (const int64_t id : ids) fuzz_check(id >= 0 && id < (*tokenizer)->vocabulary(), "ids are below the vocabulary's size");
  const std::string back = (*tokenizer)->decode(ids);
  fuzz_check(!exact || back == text, "decoding undoes encoding");
  (*tokenizer)->decode({-1, 0, 1, (*tokenizer)->vocabulary(), int64_t{1} << 62});
}

// `bytes`: a tokenizer.json. Composition and framing may change a text.
inline void fuzz_tokenizer_json(std::string_view bytes) {
  fuzz_tokenizer(parse_tokenizer_json(bytes, "tokenizer.json"), "tokenizer.json", bytes, false);
}

// `bytes`: RWKV's vocabulary.
inline void fuzz_rwkv_vocabulary(std::string_view bytes) {
  fuzz_tokenizer(parse_rwkv_vocabulary(bytes, "vocab.txt"), "vocab.txt", bytes, true);
}

// `bytes`: a SentencePiece model.
inline void fuzz_sentencepiece(std::string_view bytes) {
  absl::StatusOr<SentencePieceModel> model = parse_sentencepiece(bytes, "tokenizer.model");
  if (!model.ok()) {
    fuzz_check_sentence(std::string(model.status().message()), "tokenizer.model:");
    return;
  }
  fuzz_tokenizer(sentencepiece_tokenizer(*std::move(model)), "tokenizer.model", bytes, false);
}

}  // namespace hippodrome
