#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace hippodrome {

// Byte-pair encoding of one piece of text: begin with a token per byte; while two neighbours have a merge, put the one of
// lowest rank, the leftmost of these, in their place (Sennrich et al. 2016, arXiv 1508.07909).
class BytePairs {
 public:
  // Ids are below 2^31.
  void set_byte(unsigned char byte, int64_t id) { bytes_[byte] = id; }
  // Later merges rank behind earlier ones; a pair's first merge counts.
  void add_merge(int64_t left, int64_t right, int64_t merged);
  // A piece that is a token as a whole and takes no merging (`ignore_merges`).
  void add_whole(std::string piece, int64_t id) { wholes_.emplace(std::move(piece), id); }

  // Appends the tokens of `piece`. Time grows with n log n, whatever the piece.
  void encode(std::string_view piece, std::vector<int64_t>& ids) const;

 private:
  struct Merge {
    int64_t rank;
    int64_t merged;
  };
  const Merge* find(int64_t left, int64_t right) const;

  std::array<int64_t, 256> bytes_{};
  std::unordered_map<uint64_t, Merge> merges_;  // by left · 2^32 + right
  std::unordered_map<std::string, int64_t> wholes_;
};

}  // namespace hippodrome
