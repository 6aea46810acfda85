#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/config.h"
#include "core/base/status.h"
#include "core/tensor/tensor.h"

namespace hippodrome {

// A label that is not scored.
inline constexpr int64_t kNoLabel = -1;

// What a model sees and what it must answer.
struct Batch {
  Tensor tokens;        // [B, L] int64, CPU
  Tensor labels;        // [B, L] int64, CPU: the token to predict at this position, or kNoLabel
  Tensor positions;     // [B, L] int64, CPU: -1 padding, 0 starts a sequence
  bool ragged = false;  // true where positions are anything but 0, 1, 2, … in every row
  // Of pairs read apart (BatchRequest::apart): what an encoder reads. The above is the target alone, otherwise source
  // and target.
  Tensor source;            // [B, S] int64, CPU; undefined where there is none
  Tensor source_positions;  // [B, S] int64, CPU: -1 padding
  bool source_ragged = false;
  // Bytes of text that the labels stand for, ends included; 0: as many as there are labels. Bits per byte are of these.
  int64_t target_bytes = 0;

  // Rows [first, first + count); target_bytes stays that of all.
  Batch part(int64_t first, int64_t count) const;
};

enum class Split { kTrain, kValidation, kTest };

// Which batch: everything random in it is drawn from (seed, split, step).
struct BatchRequest {
  Split split = Split::kTrain;
  uint64_t seed = 0;
  int64_t step = 0;
  int64_t rows = 1;    // B
  int64_t length = 0;  // L; the task says in `default_length` what it is trained at
  bool apart = false;  // of tasks of pairs (core/data/pairs.h): source and target apart, as encoder–decoders read them
};

// A level of the metric that has a name: chance, or a shortcut that a model can be stuck on.
struct MetricLevel {
  std::string name;
  double value;
};

enum class Metric { kAccuracy, kBitsPerByte };
std::string_view metric_name(Metric metric);  // "accuracy", "bits_per_byte"
inline bool higher_is_better(Metric metric) { return metric == Metric::kAccuracy; }

class PairTask;  // core/data/pairs.h

// A task: a deterministic source of batches with a metric. Batches depend on (config, seed, split, step, rows, length)
// alone.
class Task {
 public:
  virtual ~Task() = default;
  // This task as one of (source, target) pairs; null where it is none.
  virtual const PairTask* as_pairs() const { return nullptr; }
  // Fails with one sentence when the request cannot be met (a length too short for the task, say).
  virtual absl::StatusOr<Batch> batch(const BatchRequest& request) const = 0;

  virtual int64_t vocabulary() const = 0;  // number of token ids
  virtual Metric metric() const = 0;
  virtual int64_t default_length() const = 0;             // L of training
  virtual std::vector<int64_t> test_lengths() const = 0;  // evaluated at the end; includes default_length
  virtual MetricLevel chance(int64_t length) const = 0;
  virtual std::vector<MetricLevel> plateaus(int64_t length) const = 0;
  // A trained-free reference for the picture's floor line (the 5-gram model of `text`); name empty when there is none.
  virtual MetricLevel floor() const { return {"", 0.0}; }
  // How many steps of `rows` the validation and test splits hold at this length; 0: unlimited (generated).
  virtual int64_t available_steps(Split split, int64_t rows, int64_t length) const;
  // What identifies the data in result rows: task version, variant, sha256 of the corpus, ….
  virtual ConfigValue provenance() const = 0;
  // One row in words, for `hippodrome list`: what goes in, what is asked.
  virtual std::string example() const = 0;
};

struct TaskEntry {
  std::string name;
  std::string doc;
  int version;  // bumped by any change of the generator
  std::function<absl::StatusOr<std::unique_ptr<Task>>(const ConfigValue& config, const std::string& path)> make;
  std::function<void(Fields&)> describe;
};

// The one list of tasks, in order of presentation.
const std::vector<TaskEntry>& tasks();
absl::StatusOr<std::unique_ptr<Task>> make_task(const std::string& name, const ConfigValue& config,
                                                const std::string& path);

}  // namespace hippodrome
