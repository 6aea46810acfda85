#include "core/data/tokenizer/byte_trie.h"

namespace hippodrome {

ByteTrie::ByteTrie() : values_(1, -1) { root_.fill(-1); }

bool ByteTrie::insert(std::string_view key, int64_t value) {
  int64_t node = 0;
  for (const char byte : key) {
    int64_t next = child(node, byte);
    if (next < 0) {
      next = static_cast<int64_t>(values_.size());
      values_.push_back(-1);
      if (node == 0) {
        root_[static_cast<unsigned char>(byte)] = next;
      } else {
        children_.emplace(static_cast<uint64_t>(node) << 8 | static_cast<unsigned char>(byte), next);
      }
    }
    node = next;
  }
  int64_t& place = values_[static_cast<size_t>(node)];
  if (node == 0 || place >= 0) {
    return false;
  }
  place = value;
  return true;
}

ByteTrie::Match ByteTrie::longest(std::string_view text) const {
  Match longest;
  each(text, [&longest](const Match& match) { longest = match; });
  return longest;
}

}  // namespace hippodrome
