#include "core/data/recall.h"

#include <cmath>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/data/generated.h"

namespace hippodrome {
namespace {
namespace recall {

constexpr int kVersion = 1;
constexpr double kPower = 0.01;  // a of the power law of gaps, the source's default

struct RecallConfig {
  int64_t vocabulary = 512;
  int64_t pairs = 4;
  int64_t length = 64;
  std::string filler = "zero";
  std::vector<int64_t> test_lengths;

  void bind(Fields& fields) {
    fields.integer("vocabulary", vocabulary, {4, 1 << 24}, "ids in all: filler, keys, values (the paper: 8192)");
    fields.integer("pairs", pairs, {1, 1 << 20}, "pairs of key and value in a row, at every length");
    fields.integer("length", length, {4, 1 << 23}, "tokens in a row while training; even");
    fields.choice("filler", filler, {"zero", "random"}, "what stands between queries: id 0, or any id at random");
    fields.integers("test_lengths", test_lengths, {4, 1 << 23},
                    "tokens in a row when testing; empty: 1, 2 and 4 times the trained length");
  }
};

// Places 0 … n−1 with weights, drawn in turn without replacement: a Fenwick tree of integer weights, so that sums stay
// exact however often a weight is taken out and put back, and a draw costs log n.
class WeightedPlaces {
 public:
  // Weight of place g: (g + 1)^(a − 1), in units of 2^-40.
  explicit WeightedPlaces(int64_t size) : weights_(size), sums_(size + 1, 0) {
    for (int64_t place = 0; place < size; ++place) {
      weights_[place] = std::llround(std::pow(static_cast<double>(place + 1), kPower - 1.0) * 0x1.0p40);
      add(place, weights_[place]);
    }
    while (2 * top_ <= size) {
      top_ *= 2;
    }
  }

  int64_t take(RandomStream& random) {
    int64_t rest = random.below(total_);
    int64_t node = 0;
    for (int64_t jump = top_; jump > 0; jump /= 2) {
      if (node + jump < static_cast<int64_t>(sums_.size()) && sums_[node + jump] <= rest) {
        node += jump;
        rest -= sums_[node];
      }
    }
    add(node, -weights_[node]);
    return node;
  }

  void put_back(int64_t place) { add(place, weights_[place]); }

 private:
  void add(int64_t place, int64_t weight) {
    total_ += weight;
    for (int64_t node = place + 1; node < static_cast<int64_t>(sums_.size()); node += node & -node) {
      sums_[node] += weight;
    }
  }

  std::vector<int64_t> weights_;
  std::vector<int64_t> sums_;  // sums_[i] covers the places i − (i & −i) … i − 1
  int64_t total_ = 0;
  int64_t top_ = 1;  // largest power of two that is not above the number of places
};

// Draws from 0 … n−1, no value twice within a row.
class DistinctDraws {
 public:
  explicit DistinctDraws(int64_t size) : last_row_(size, -1) {}

  // At most half of the values are ever taken (4·kv ≤ T < V), so drawing again on a repeat ends soon.
  int64_t draw(RandomStream& random, int64_t row) {
    int64_t value = random.below(static_cast<int64_t>(last_row_.size()));
    while (last_row_[value] == row) {
      value = random.below(static_cast<int64_t>(last_row_.size()));
    }
    last_row_[value] = row;
    return value;
  }

 private:
  std::vector<int64_t> last_row_;  // the row that last drew this value
};

class RecallTask final : public GeneratedTask {
 public:
  explicit RecallTask(const RecallConfig& config)
      : GeneratedTask("recall", config.length,
                      config.test_lengths.empty() ? multiples(config.length, {1, 2, 4}) : config.test_lengths),
        vocabulary_(config.vocabulary),
        pairs_(config.pairs),
        random_filler_(config.filler == "random") {}

  using GeneratedTask::check_lengths;

  int64_t vocabulary() const override { return vocabulary_; }
  MetricLevel chance(int64_t) const override {
    return {"chance", 1.0 / static_cast<double>(vocabulary_ - first_value())};
  }
  std::vector<MetricLevel> plateaus(int64_t) const override {
    return {{"a value of this row", 1.0 / static_cast<double>(pairs_)}};
  }

  ConfigValue provenance() const override {
    ConfigValue value = provenance_of("recall", kVersion);
    value.set("variant", ConfigValue(std::string("MQAR")));
    value.set("filler", ConfigValue(std::string(random_filler_ ? "random" : "zero")));
    value.set("vocabulary", ConfigValue(vocabulary_));
    value.set("pairs", ConfigValue(pairs_));
    value.set("power_a", ConfigValue(kPower));
    return value;
  }

  std::string example() const override {
    return "k2 v8 k4 v7 k4 0 0 0 k2 0 0 0 -> . . . . v7 . . . v8 . . .: the value that came with this key";
  }

 protected:
  absl::Status accepts(int64_t length) const override {
    if (length % 2 != 0) {
      return absl::InvalidArgumentError(absl::StrCat("recall needs rows of even length, not ", length));
    }
    if (vocabulary_ <= length) {
      return absl::InvalidArgumentError(
          absl::StrCat("recall needs a vocabulary larger than the length, but vocabulary is ", vocabulary_,
                       " and a length is ", length, ": raise vocabulary or shorten the rows"));
    }
    if (4 * pairs_ > length) {
      return absl::InvalidArgumentError(
          absl::StrCat("recall needs rows of at least four times the pairs, but pairs is ", pairs_, " and a length is ",
                       length, ": give fewer pairs or longer rows"));
    }
    return absl::OkStatus();
  }

  void fill(const Rows& rows) const override {
    const int64_t context = 2 * pairs_;
    WeightedPlaces places((rows.length - context) / 2);
    DistinctDraws keys(first_value() - 1);
    DistinctDraws values(vocabulary_ - first_value());
    std::vector<int64_t> taken(pairs_);
    for (int64_t row = 0; row < rows.count; ++row) {
      RandomStream random = rows.random(row);
      int64_t* tokens = rows.tokens_of(row);
      int64_t* labels = rows.labels_of(row);
      for (int64_t pair = 0; pair < pairs_; ++pair) {
        const int64_t key = 1 + keys.draw(random, row);
        const int64_t value = first_value() + values.draw(random, row);
        taken[pair] = places.take(random);
        const int64_t query = context + 2 * taken[pair];
        tokens[2 * pair] = tokens[query] = key;
        tokens[2 * pair + 1] = labels[query] = value;
      }
      for (const int64_t place : taken) {
        places.put_back(place);
      }
      for (int64_t t = context; random_filler_ && t < rows.length; ++t) {
        if (labels[t] == kNoLabel) {
          tokens[t] = random.below(vocabulary_);
        }
      }
    }
  }

 private:
  int64_t first_value() const { return vocabulary_ / 2; }

  int64_t vocabulary_;
  int64_t pairs_;
  bool random_filler_;
};

absl::StatusOr<std::unique_ptr<Task>> make(const ConfigValue& config, const std::string& path) {
  ASSIGN_OR_RETURN(const RecallConfig parsed, read_config<RecallConfig>(config, path));
  auto task = std::make_unique<RecallTask>(parsed);
  RETURN_IF_ERROR(task->check_lengths(config, path));
  return task;
}

}  // namespace recall
}  // namespace

TaskEntry recall_task() {
  return {"recall", "many keys, each asked once (MQAR): how much a state can hold", recall::kVersion, recall::make,
          [](Fields& fields) { recall::RecallConfig().bind(fields); }};
}

}  // namespace hippodrome
