#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace hippodrome {

// A set of byte strings, each with a value of 0 or more, asked which of them a text begins with.
class ByteTrie {
 public:
  struct Match {
    size_t length = 0;
    int64_t value = -1;  // -1: none
  };

  ByteTrie();
  // An empty key or one that is there already changes nothing and returns false.
  bool insert(std::string_view key, int64_t value);
  // The longest key that `text` begins with.
  Match longest(std::string_view text) const;
  // Calls visit(Match) for each key that `text` begins with, the shortest first.
  template <class Visit>
  void each(std::string_view text, Visit visit) const {
    int64_t node = 0;
    for (size_t length = 0; length < text.size();) {
      node = child(node, text[length]);
      if (node < 0) return;
      ++length;
      if (values_[static_cast<size_t>(node)] >= 0) visit(Match{length, values_[static_cast<size_t>(node)]});
    }
  }

 private:
  int64_t child(int64_t node, char byte) const {
    const auto value = static_cast<unsigned char>(byte);
    // Most look-ups are at the root, and most of those in vain.
    if (node == 0) return root_[value];
    const auto found = children_.find(static_cast<uint64_t>(node) << 8 | value);
    return found == children_.end() ? -1 : found->second;
  }

  std::vector<int64_t> values_;  // by node
  std::array<int64_t, 256> root_;
  std::unordered_map<uint64_t, int64_t> children_;  // node · 256 + byte
};

}  // namespace hippodrome
