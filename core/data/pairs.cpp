#include "core/data/pairs.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/data/padded_rows.h"

namespace hippodrome {
namespace {
namespace pairs_detail {

// Batches that are sorted by length together.
constexpr int64_t kPool = 20;

void append(std::vector<int64_t>& to, const std::vector<int64_t>& ids) { to.insert(to.end(), ids.begin(), ids.end()); }

}  // namespace pairs_detail
}  // namespace

Batch batch_of_pairs(const std::vector<Pair>& pairs, bool apart) {
  std::vector<std::vector<int64_t>> sources(pairs.size()), tokens(pairs.size()), labels(pairs.size());
  for (size_t row = 0; row < pairs.size(); ++row) {
    const auto& [source, target] = pairs[row];
    if (apart) {
      sources[row] = source;
      sources[row].push_back(kEnd);
    } else {
      tokens[row] = source;
      labels[row].assign(source.size(), kNoLabel);
    }
    tokens[row].push_back(kBegin);
    pairs_detail::append(tokens[row], target);
    pairs_detail::append(labels[row], target);
    labels[row].push_back(kEnd);
  }
  PaddedRows read = padded_rows(tokens);
  Batch batch;
  batch.labels = padded_to(labels, read.ids.size(1), kNoLabel);
  batch.tokens = std::move(read.ids);
  batch.positions = std::move(read.positions);
  batch.ragged = read.ragged;
  if (apart) {
    PaddedRows source = padded_rows(sources);
    batch.source = std::move(source.ids);
    batch.source_positions = std::move(source.positions);
    batch.source_ragged = source.ragged;
  }
  return batch;
}

absl::StatusOr<Batch> PairTask::batch(const BatchRequest& request) const {
  ASSIGN_OR_RETURN(const std::vector<Pair> rows, pairs(request));
  Batch batch = batch_of_pairs(rows, request.apart);
  for (const Pair& pair : rows) batch.target_bytes += target_bytes(pair);
  return batch;
}

std::vector<int64_t> rows_of_similar_length(const BatchRequest& request, const RandomStream& random,
                                            const std::function<int64_t(int64_t)>& length_of) {
  const int64_t pool = request.step / pairs_detail::kPool, place = request.step % pairs_detail::kPool;
  std::vector<std::pair<int64_t, int64_t>> rows;  // length and number
  rows.reserve(static_cast<size_t>(pairs_detail::kPool * request.rows));
  for (int64_t i = 0; i < pairs_detail::kPool * request.rows; ++i) {
    const int64_t row = pool * pairs_detail::kPool * request.rows + i;
    rows.emplace_back(length_of(row), row);
  }
  std::sort(rows.begin(), rows.end());
  // Which of the sorted batches comes at this step: the place-th of a shuffled order.
  std::vector<int64_t> order(pairs_detail::kPool);
  std::iota(order.begin(), order.end(), 0);
  RandomStream shuffle = random.fork("order of batches").fork(static_cast<uint64_t>(pool));
  for (int64_t i = pairs_detail::kPool - 1; i > 0; --i) {
    std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(shuffle.below(i + 1))]);
  }
  const auto first = rows.begin() + order[static_cast<size_t>(place)] * request.rows;
  std::vector<int64_t> numbers;
  for (auto row = first; row != first + request.rows; ++row) numbers.push_back(row->second);
  return numbers;
}

std::vector<std::string> labels_of(const std::vector<int64_t>& ids, const std::function<std::string(int64_t)>& symbol) {
  std::vector<std::string> labels;
  labels.reserve(ids.size());
  for (const int64_t id : ids) {
    labels.push_back(id == kEnd ? "</s>" : id == kBegin ? "<s>" : symbol(id));
  }
  return labels;
}

}  // namespace hippodrome
