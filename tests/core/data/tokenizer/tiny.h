#pragma once

#include <bit>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/data/tokenizer/byte_level.h"

// Tokenizers small enough to work out by hand.
namespace hippodrome::tiny_tokenizers {

// A tokenizer.json of byte-level BPE: byte b is id b, merge i is id 256 + i, then "<|end|>".
inline nlohmann::json byte_level_json(const std::vector<std::pair<std::string, std::string>>& merges) {
  nlohmann::json vocabulary, list = nlohmann::json::array();
  for (int byte = 0; byte < 256; ++byte) vocabulary[byte_level_character(static_cast<unsigned char>(byte))] = byte;
  for (const auto& [left, right] : merges) {
    list.push_back({left, right});
    const size_t next = vocabulary.size();
    vocabulary[left + right] = next;
  }
  const size_t end = vocabulary.size();
  return {{"added_tokens", {{{"id", end}, {"content", "<|end|>"}, {"special", true}, {"normalized", false}}}},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"post_processor", {{"type", "ByteLevel"}}},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", list}}}};
}

// RWKV's lines: byte b is id b + 1, then the words.
inline std::string rwkv_lines(const std::vector<std::string>& words) {
  std::string text;
  for (int byte = 0; byte < 256; ++byte) {
    const char digits[] = {"0123456789abcdef"[byte >> 4], "0123456789abcdef"[byte & 15], '\0'};
    text += std::to_string(byte + 1) + (byte < 128 ? " '\\x" : " b'\\x") + digits + "' 1\n";
  }
  int id = 257;
  for (const std::string& word : words) {
    text += std::to_string(id++) + " '" + word + "' " + std::to_string(word.size()) + "\n";
  }
  return text;
}

// Protocol buffers, written.
inline std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}
inline std::string number_field(int number, uint64_t value) { return varint(static_cast<uint64_t>(number) << 3) + varint(value); }
inline std::string bytes_field(int number, const std::string& bytes) {
  return varint(static_cast<uint64_t>(number) << 3 | 2) + varint(bytes.size()) + bytes;
}
inline std::string piece(const std::string& text, float score, int type = 1) {
  std::string message = bytes_field(1, text) + varint(2 << 3 | 5);
  for (int i = 0; i < 4; ++i) message += static_cast<char>(std::bit_cast<uint32_t>(score) >> (8 * i));
  return bytes_field(1, message + number_field(3, static_cast<uint64_t>(type)));
}
// <unk> 0, <s> 1, </s> 2, then `pieces`; `trainer` and `normalizer` are fields of those messages.
inline std::string sentencepiece_model(const std::string& pieces, const std::string& trainer, const std::string& normalizer) {
  return piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3) + pieces + bytes_field(2, trainer) +
         bytes_field(3, normalizer);
}

}  // namespace hippodrome::tiny_tokenizers
