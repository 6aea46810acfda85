#include "core/data/tokenizer/byte_pair.h"

#include <queue>
#include <tuple>

namespace hippodrome {
namespace byte_pair_detail {
namespace {

struct Symbol {
  int64_t id;
  int64_t previous, next;  // -1: none
  bool gone = false;       // part of the symbol before it
};

struct Candidate {
  int64_t rank, left, merged;
  bool operator<(const Candidate& other) const {  // the first to merge is the greatest
    return std::tie(rank, left) > std::tie(other.rank, other.left);
  }
};

}  // namespace
}  // namespace byte_pair_detail

void BytePairs::add_merge(int64_t left, int64_t right, int64_t merged) {
  merges_.emplace(static_cast<uint64_t>(left) << 32 | static_cast<uint64_t>(right),
                  Merge{static_cast<int64_t>(merges_.size()), merged});
}

const BytePairs::Merge* BytePairs::find(int64_t left, int64_t right) const {
  const auto found = merges_.find(static_cast<uint64_t>(left) << 32 | static_cast<uint64_t>(right));
  return found == merges_.end() ? nullptr : &found->second;
}

void BytePairs::encode(std::string_view piece, std::vector<int64_t>& ids) const {
  using namespace byte_pair_detail;
  if (!wholes_.empty()) {
    if (const auto whole = wholes_.find(std::string(piece)); whole != wholes_.end()) {
      ids.push_back(whole->second);
      return;
    }
  }
  const auto size = static_cast<int64_t>(piece.size());
  std::vector<Symbol> symbols;
  symbols.reserve(piece.size());
  for (int64_t i = 0; i < size; ++i) {
    symbols.push_back({bytes_[static_cast<unsigned char>(piece[static_cast<size_t>(i)])], i - 1, i + 1 < size ? i + 1 : -1});
  }
  const auto at = [&symbols](int64_t index) -> Symbol& { return symbols[static_cast<size_t>(index)]; };

  std::priority_queue<Candidate> candidates;
  const auto consider = [&](int64_t left) {
    if (left < 0 || at(left).next < 0) return;
    if (const Merge* merge = find(at(left).id, at(at(left).next).id)) candidates.push({merge->rank, left, merge->merged});
  };
  for (int64_t i = 0; i + 1 < size; ++i) consider(i);
  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    Symbol& left = at(best.left);
    if (left.gone || left.next < 0) continue;
    Symbol& right = at(left.next);
    // The neighbours may have changed since.
    const Merge* merge = find(left.id, right.id);
    if (merge == nullptr || merge->merged != best.merged) continue;
    left.id = best.merged;
    left.next = right.next;
    right.gone = true;
    if (left.next >= 0) at(left.next).previous = best.left;
    consider(left.previous);
    consider(best.left);
  }
  for (int64_t i = size > 0 ? 0 : -1; i >= 0; i = at(i).next) ids.push_back(at(i).id);
}

}  // namespace hippodrome
