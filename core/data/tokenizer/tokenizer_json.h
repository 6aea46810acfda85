#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "core/data/tokenizer/tokenizer.h"

namespace hippodrome {

// A tokenizer.json of byte-level BPE, as Hugging Face's tokenizers library writes it. Read are
//   model           BPE, merges as "a b" or ["a", "b"], ignore_merges; all 256 bytes must be tokens
//   normalizer      none, or NFC
//   pre_tokenizer   ByteLevel with GPT-2's split; or Split by Llama 3's pattern and then ByteLevel
//   decoder         ByteLevel
//   post_processor  none, ByteLevel, TemplateProcessing (its frame of a single text), or a sequence of these
//   added_tokens    found literally, the longest at a place; not lstrip, rstrip or single_word
// What is of another kind is Unimplemented, what is malformed DataLoss; the sentence begins with `name` and the key.
absl::StatusOr<std::unique_ptr<Tokenizer>> parse_tokenizer_json(std::string_view text, const std::string& name);

}  // namespace hippodrome
