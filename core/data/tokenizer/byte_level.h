#pragma once

#include <memory>
#include <string>
#include <unordered_map>

#include "core/data/tokenizer/byte_pair.h"
#include "core/data/tokenizer/byte_trie.h"
#include "core/data/tokenizer/split.h"
#include "core/data/tokenizer/tokenizer.h"

namespace hippodrome {

// Byte-level BPE (GPT-2): tokens found literally first, then composition, splitting, and byte pairs within each piece.
struct ByteLevelModel {
  SplitRule split = SplitRule::kGpt2;
  bool compose = false;      // Unicode's form C
  bool prefix_space = false;  // a space before text that does not begin with one
  BytePairs pairs;
  std::unordered_map<int64_t, std::string> tokens;  // bytes by id
  // Tokens taken whole wherever they stand, the longest at a place: in the text as given, and in what is left, composed.
  ByteTrie literal, literal_composed;
  SpecialTokens special;
};

std::unique_ptr<Tokenizer> byte_level_tokenizer(ByteLevelModel model);

// How tokenizer.json writes bytes in its vocabulary, one character each: printable ones of Latin-1 stand for themselves,
// the others are U+0100 onwards in their order. Returns the UTF-8 of a byte's character.
std::string byte_level_character(unsigned char byte);
// The bytes that a vocabulary entry stands for; false where it has a character that stands for none.
bool byte_level_bytes(std::string_view entry, std::string& bytes);

}  // namespace hippodrome
