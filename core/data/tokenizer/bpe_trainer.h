#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace hippodrome {

// How often each piece of text occurs. Pieces are what merges stay within: words with the space before them.
using PieceCounts = std::unordered_map<std::string, int64_t>;

// Adds the pieces of `text`, split as GPT-2 does, a space put before a text that does not begin with one.
void count_pieces(std::string_view text, PieceCounts& counts);

// Byte-pair encoding learned from text (Sennrich et al. 2016, arXiv 1508.07909, algorithm 1), beginning with bytes: at
// most `merges` times, the two neighbouring tokens that occur together most often become one. Of equally frequent pairs
// the first in the order of their bytes is taken, so the result depends on nothing but the counts. Ends early where no
// pair occurs twice. Each merge is the bytes of its two parts. Time grows with the occurrences of the pairs that
// change, not with merges times text.
std::vector<std::pair<std::string, std::string>> learn_byte_pairs(const PieceCounts& counts, int64_t merges);

// The merges as a tokenizer, in the form of a file that parse_tokenizer_json and load_tokenizer read: byte b is id b,
// and each new token takes the next id (merges that make the same bytes share one). Text is split as count_pieces does.
std::string byte_pair_json(const std::vector<std::pair<std::string, std::string>>& merges);

}  // namespace hippodrome
