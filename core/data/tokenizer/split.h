#pragma once

#include <string_view>

namespace hippodrome {

// The splits of text into the pieces that byte-level BPE merges within, each by hand what its regular expression says.
enum class SplitRule {
  kWhole,   // one piece
  kGpt2,    // GPT-2, and all that follow it, GPT-NeoX for one
  kLlama3,  // Llama 3: newlines apart, numbers by threes, any character may lead a word
};

// Llama 3's, as tokenizer.json has it; GPT-2's is implied there by "ByteLevel".
inline constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// The first piece of `text`: empty for the empty text only, so that pieces taken off one after the other make up the text.
// Bytes that are not UTF-8 count as characters that are neither letter nor number nor space.
std::string_view first_piece(SplitRule rule, std::string_view text);

}  // namespace hippodrome
