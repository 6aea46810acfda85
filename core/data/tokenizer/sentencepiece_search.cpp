#include "core/data/tokenizer/sentencepiece_search.h"

#include <algorithm>
#include <limits>
#include <queue>

#include "core/data/tokenizer/unicode.h"

namespace hippodrome {
namespace sentencepiece_search_detail {
namespace {

using Type = SentencePieceModel::Type;

constexpr float kUnknownPenalty = 10.0f;  // below the least score

struct Symbol {
  std::string_view text;   // empty: part of the symbol before it
  int64_t previous, next;  // -1: none
  bool frozen;             // defined by the user, never merged
};

struct Candidate {
  float score;
  int64_t left, right;
  size_t size;
  bool operator<(const Candidate& other) const {  // the first to merge is the greatest
    return score < other.score || (score == other.score && left > other.left);
  }
};

struct Best {
  float score = 0.0f;
  int64_t start = -1;  // of the last piece; -1: not reached
  int64_t id = -1;
};

}  // namespace
}  // namespace sentencepiece_search_detail

SentencePieceSearch::SentencePieceSearch(const SentencePieceModel& model) : model_(model) {
  using sentencepiece_search_detail::Type;
  float least = std::numeric_limits<float>::max(), greatest = std::numeric_limits<float>::lowest();
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    const SentencePieceModel::Piece& piece = model.pieces[i];
    const auto id = static_cast<int64_t>(i);
    const bool ordinary =
        piece.type == Type::kNormal || piece.type == Type::kUserDefined || piece.type == Type::kUnused;
    (ordinary ? ordinary_ : reserved_).emplace(piece.text, id);
    if (ordinary && model.kind == SentencePieceModel::Kind::kUnigram) trie_.insert(piece.text, id);
    if (piece.type == Type::kUserDefined) user_defined_.insert(piece.text, id);
    if (piece.type == Type::kUnknown) unknown_ = id;
    if (piece.type == Type::kNormal) {
      least = std::min(least, piece.score);
      greatest = std::max(greatest, piece.score);
    }
  }
  if (least <= greatest) {
    least_score_ = least;
    greatest_score_ = greatest;
  }
}

void SentencePieceSearch::add(std::string_view piece, const Splits& splits, std::vector<Found>& found) const {
  // Depth first, left before right, without recursion: the depth is the file's to choose.
  std::vector<std::string_view> open = {piece};
  while (!open.empty()) {
    const std::string_view text = open.back();
    open.pop_back();
    const auto reserved = reserved_.find(text), ordinary = ordinary_.find(text);
    const int64_t id = reserved != reserved_.end()   ? reserved->second
                       : ordinary != ordinary_.end() ? ordinary->second
                                                     : unknown_;
    const auto split = splits.find(text);
    if (has_type(id, SentencePieceModel::Type::kUnused) && split != splits.end()) {
      open.push_back(split->second.second);
      open.push_back(split->second.first);
    } else {
      found.push_back({text, id});
    }
  }
}

std::vector<SentencePieceSearch::Found> SentencePieceSearch::byte_pairs(std::string_view text) const {
  using namespace sentencepiece_search_detail;
  std::vector<Symbol> symbols;
  for (size_t at = 0; at < text.size();) {
    const ByteTrie::Match match = user_defined_.longest(text.substr(at));
    const size_t length = match.value >= 0 ? match.length : first_character(text.substr(at)).length;
    const auto index = static_cast<int64_t>(symbols.size());
    at += length;
    symbols.push_back(
        {text.substr(at - length, length), index - 1, at < text.size() ? index + 1 : -1, match.value >= 0});
  }
  const auto at = [&symbols](int64_t index) -> Symbol& { return symbols[static_cast<size_t>(index)]; };

  std::priority_queue<Candidate> candidates;
  Splits splits;
  const auto consider = [&](int64_t left, int64_t right) {
    if (left < 0 || right < 0 || at(left).frozen || at(right).frozen) return;
    const std::string_view whole(at(left).text.data(), at(left).text.size() + at(right).text.size());
    const auto piece = ordinary_.find(whole);
    if (piece == ordinary_.end()) return;
    candidates.push({model_.pieces[static_cast<size_t>(piece->second)].score, left, right, whole.size()});
    if (has_type(piece->second, Type::kUnused)) splits[whole] = {at(left).text, at(right).text};
  };
  const auto count = static_cast<int64_t>(symbols.size());
  for (int64_t i = 1; i < count; ++i) consider(i - 1, i);
  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    Symbol &left = at(best.left), &right = at(best.right);
    // Either may be merged away or have grown since.
    if (left.text.empty() || right.text.empty() || left.text.size() + right.text.size() != best.size) continue;
    left.text = {left.text.data(), best.size};
    left.next = right.next;
    if (right.next >= 0) at(right.next).previous = best.left;
    right.text = {};
    consider(left.previous, best.left);
    consider(best.left, left.next);
  }
  std::vector<Found> found;
  for (int64_t i = count > 0 ? 0 : -1; i >= 0; i = at(i).next) add(at(i).text, splits, found);
  return found;
}

std::vector<SentencePieceSearch::Found> SentencePieceSearch::unigrams(std::string_view text) const {
  using namespace sentencepiece_search_detail;
  const float unknown_score = least_score_ - kUnknownPenalty;
  std::vector<Best> best(text.size() + 1);
  // Paths are compared in float32, as sentencepiece does: of equal ones the first found stays.
  const auto improve = [&best](size_t end, double score, size_t start, int64_t id) {
    if (best[end].start >= 0 && static_cast<float>(score) <= best[end].score) return;
    best[end] = {static_cast<float>(score), static_cast<int64_t>(start), id};
  };
  for (size_t start = 0; start < text.size();) {
    const size_t character = first_character(text.substr(start)).length;
    const double so_far = static_cast<double>(best[start].score);
    bool has_character = false;
    trie_.each(text.substr(start), [&](const ByteTrie::Match& match) {
      if (has_type(match.value, Type::kUnused)) return;
      // What the user defined is to win always.
      const double score = has_type(match.value, Type::kUserDefined)
                               ? static_cast<double>(static_cast<float>(match.length) * greatest_score_) - 0.1
                               : static_cast<double>(model_.pieces[static_cast<size_t>(match.value)].score);
      improve(start + match.length, score + so_far, start, match.value);
      has_character = has_character || match.length == character;
    });
    if (!has_character)
      improve(start + character, static_cast<double>(unknown_score + best[start].score), start, unknown_);
    start += character;
  }
  std::vector<Found> found;
  for (auto end = static_cast<int64_t>(text.size()); end > 0; end = best[static_cast<size_t>(end)].start) {
    const Best& last = best[static_cast<size_t>(end)];
    found.push_back({text.substr(static_cast<size_t>(last.start), static_cast<size_t>(end - last.start)), last.id});
  }
  std::reverse(found.begin(), found.end());
  return found;
}

}  // namespace hippodrome
