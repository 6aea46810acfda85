#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/random.h"
#include "core/data/task.h"

namespace hippodrome {

// A source and what it becomes, as ids, without end and begin.
struct Pair {
  std::vector<int64_t> source, target;
};

// Ids of every task of pairs: 0 ends a sequence, 1 begins the target (and parts it from the source where a row holds
// both); symbols are from 2 on.
inline constexpr int64_t kEnd = 0, kBegin = 1, kFirstSymbol = 2;

// A task of (source, target) pairs: reversal, translation. The target is asked for symbol by symbol, each after those
// before it (teacher forcing), and then the end. The same pairs come in two layouts; here of s1 s2 s3 and y1 y2:
//
//   BatchRequest::apart, for models with an encoder    together, for all others
//     source   s1 s2 s3 0
//     tokens   1  y1 y2                                  tokens   s1 s2 s3 1  y1 y2
//     labels   y1 y2 0                                   labels   .  .  .  y1 y2 0
//
// Rows are padded at the right to the longest of the batch: tokens and source 0, positions -1, no labels.
//
// A length is that of the source, in symbols. In training and validation, sources of all lengths up to the request's
// occur; in the test split, lengths of a bucket that ends at the request's, so that the test lengths of a task draw the
// curve over source lengths.
class PairTask : public Task {
 public:
  const PairTask* as_pairs() const final { return this; }

  // The pairs of a request, row by row. The last batch of a split that ends may have fewer than `rows`; never none.
  virtual absl::StatusOr<std::vector<Pair>> pairs(const BatchRequest& request) const = 0;
  absl::StatusOr<Batch> batch(const BatchRequest& request) const final;

  // As a person reads it, in UTF-8. What is no symbol adds nothing, so what a model says may be given as it is.
  virtual std::string source_text(const std::vector<int64_t>& ids) const = 0;
  virtual std::string target_text(const std::vector<int64_t>& ids) const = 0;
  // A label for each id, in UTF-8: what the axes of an attention map say. End and begin are "</s>" and "<s>".
  virtual std::vector<std::string> source_symbols(const std::vector<int64_t>& ids) const = 0;
  virtual std::vector<std::string> target_symbols(const std::vector<int64_t>& ids) const = 0;
  // A line that someone typed, as the ids of a source, or one sentence on what is wrong with it.
  virtual absl::StatusOr<std::vector<int64_t>> encode_source(std::string_view text) const = 0;

 protected:
  // Bytes of text that a target stands for, its end included; 0 where only its symbols count.
  virtual int64_t target_bytes(const Pair&) const { return 0; }
};

// The batch that `pairs`, at least one, make up in either layout.
Batch batch_of_pairs(const std::vector<Pair>& pairs, bool apart);

// Numbers of the rows of a training batch such that batches hold rows of similar length and little padding: of 20
// batches' rows at a time, sorted by `length_of(row number)`, one batch each step, in an order drawn from `random`
// (Bahdanau et al. 2015, appendix B.2). Every row number occurs once.
std::vector<int64_t> rows_of_similar_length(const BatchRequest& request, const RandomStream& random,
                                            const std::function<int64_t(int64_t)>& length_of);

// "</s>" for kEnd, "<s>" for kBegin, and what `symbol` says of any other.
std::vector<std::string> labels_of(const std::vector<int64_t>& ids, const std::function<std::string(int64_t)>& symbol);

}  // namespace hippodrome
