#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/config.h"
#include "core/base/random.h"
#include "core/data/task.h"

namespace hippodrome {

// The rows of a batch to be written, as plain memory: tokens come zeroed and labels come as kNoLabel.
struct Rows {
  int64_t count;        // B
  int64_t length;       // L
  int64_t* tokens;      // [B, L]
  int64_t* labels;      // [B, L]
  RandomStream stream;  // of the split
  int64_t first;        // number of the first row within the split

  int64_t* tokens_of(int64_t row) const { return tokens + row * length; }
  int64_t* labels_of(int64_t row) const { return labels + row * length; }
  // Everything random in a row.
  RandomStream random(int64_t row) const { return stream.fork(static_cast<uint64_t>(first + row)); }
};

// Rows of a split are numbered step·B + row, so the same rows come in the same order whatever the batch size: a run
// with gradient accumulation sees what a run with the large batch sees.
inline int64_t first_row(const BatchRequest& request) { return request.step * request.rows; }

// Where a split's random numbers come from. The training split depends on the request's seed; validation and test do
// not, so that every model and every training seed is measured on the same rows and results are paired. The splits, and
// the lengths within a split, are disjoint streams.
RandomStream split_stream(std::string_view task, const BatchRequest& request);

// A task whose rows are drawn, not read.
class GeneratedTask : public Task {
 public:
  absl::StatusOr<Batch> batch(const BatchRequest& request) const final;
  Metric metric() const final { return Metric::kAccuracy; }
  std::vector<int64_t> test_lengths() const final { return test_lengths_; }
  int64_t default_length() const final { return length_; }

 protected:
  // `name` names the random streams. `test_lengths` is sorted, and the trained length added where it is missing.
  GeneratedTask(std::string name, int64_t length, std::vector<int64_t> test_lengths);

  // Whether rows of this length can be made: one sentence when not.
  virtual absl::Status accepts(int64_t length) const = 0;
  virtual void fill(const Rows& rows) const = 0;

  // To be called by factories: checks the trained and every test length, naming the recipe's line and table.
  absl::Status check_lengths(const ConfigValue& config, const std::string& path) const;

 private:
  std::string name_;
  int64_t length_;
  std::vector<int64_t> test_lengths_;
};

// One sentence where a request has no rows, no length or a negative step.
absl::Status check_request(const BatchRequest& request);

// [B, L] tokens (zero), labels (kNoLabel) and positions 0, 1, 2, …; or one sentence on what is wrong with the request.
absl::StatusOr<Batch> blank_batch(const BatchRequest& request);

// The one list of lengths that are evaluated: `lengths` and `trained`, in order, each once.
std::vector<int64_t> sorted_lengths(std::vector<int64_t> lengths, int64_t trained);

// `factors` × `length`: the usual lengths of extrapolation.
std::vector<int64_t> multiples(int64_t length, const std::vector<int64_t>& factors);

// An error about a table of the recipe as a whole: "recipe.toml:12: [tasks.recall]: …".
absl::Status config_error(const ConfigValue& config, const std::string& path, std::string_view sentence);

std::string split_name(Split split);  // "train", "validation", "test"

// {"task": name, "version": version}: how every provenance begins.
ConfigValue provenance_of(std::string_view name, int version);

}  // namespace hippodrome
