#include "core/data/selective_copying.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/data/generated.h"

namespace hippodrome {
namespace {
namespace selective_copying {

constexpr int kVersion = 1;

struct SelectiveCopyingConfig {
  int64_t vocabulary = 16;
  int64_t tokens = 8;
  int64_t length = 80;
  std::vector<int64_t> test_lengths;

  void bind(Fields& fields) {
    fields.integer("vocabulary", vocabulary, {3, 1 << 20}, "ids in all: noise, data tokens, marker");
    fields.integer("tokens", tokens, {1, 1 << 20}, "data tokens in a row");
    fields.integer("length", length, {2, 1 << 24}, "tokens in a row while training: noise, data and markers");
    fields.integers("test_lengths", test_lengths, {2, 1 << 24},
                    "tokens in a row when testing; empty: the noise 1, 2, 4 and 8 times as long");
  }
};

// With the noise of training 1, 2, 4 and 8 times as long, data and markers as many.
std::vector<int64_t> usual_lengths(const SelectiveCopyingConfig& config) {
  std::vector<int64_t> lengths = multiples(config.length - 2 * config.tokens, {1, 2, 4, 8});
  for (int64_t& length : lengths) {
    length += 2 * config.tokens;
  }
  return lengths;
}

class SelectiveCopyingTask final : public GeneratedTask {
 public:
  explicit SelectiveCopyingTask(const SelectiveCopyingConfig& config)
      : GeneratedTask("selective_copying", config.length,
                      config.test_lengths.empty() ? usual_lengths(config) : config.test_lengths),
        vocabulary_(config.vocabulary),
        count_(config.tokens) {}

  using GeneratedTask::check_lengths;

  int64_t vocabulary() const override { return vocabulary_; }
  MetricLevel chance(int64_t) const override { return {"chance", 1.0 / data_ids()}; }

  std::vector<MetricLevel> plateaus(int64_t) const override {
    const double own = 1.0 / static_cast<double>(count_);
    return {{"a token of this row", own + (1.0 - own) / data_ids()}};
  }

  ConfigValue provenance() const override {
    ConfigValue value = provenance_of("selective_copying", kVersion);
    value.set("vocabulary", ConfigValue(vocabulary_));
    value.set("tokens", ConfigValue(count_));
    value.set("chance", ConfigValue(std::string("1/(A-2): noise and marker can be output and are never right")));
    return value;
  }

  std::string example() const override {
    return "0 4 0 0 1 4 0 0 0 M M M -> . . . . . . . . . 4 1 4: the tokens among the noise, in order, at the markers M";
  }

 protected:
  absl::Status accepts(int64_t length) const override {
    if (length < 2 * count_) {
      return absl::InvalidArgumentError(absl::StrCat("selective_copying with ", count_,
                                                     " tokens needs rows of at least ", 2 * count_, ", not ", length,
                                                     ": give a larger length or fewer tokens"));
    }
    return absl::OkStatus();
  }

  void fill(const Rows& rows) const override {
    const int64_t body = rows.length - count_;
    for (int64_t row = 0; row < rows.count; ++row) {
      RandomStream random = rows.random(row);
      int64_t* tokens = rows.tokens_of(row);
      int64_t* labels = rows.labels_of(row);
      // Floyd's draw of `count_` distinct places (Bentley and Floyd 1987): all subsets are equally likely.
      for (int64_t last = body - count_; last < body; ++last) {
        const int64_t place = random.below(last + 1);
        tokens[tokens[place] == 0 ? place : last] = 1;
      }
      int64_t answer = body;
      for (int64_t t = 0; t < body; ++t) {
        if (tokens[t] != 0) {
          tokens[t] = 1 + random.below(vocabulary_ - 2);
          tokens[answer] = vocabulary_ - 1;
          labels[answer] = tokens[t];
          ++answer;
        }
      }
    }
  }

 private:
  double data_ids() const { return static_cast<double>(vocabulary_ - 2); }

  int64_t vocabulary_;
  int64_t count_;
};

absl::StatusOr<std::unique_ptr<Task>> make(const ConfigValue& config, const std::string& path) {
  ASSIGN_OR_RETURN(const SelectiveCopyingConfig parsed, read_config<SelectiveCopyingConfig>(config, path));
  auto task = std::make_unique<SelectiveCopyingTask>(parsed);
  RETURN_IF_ERROR(task->check_lengths(config, path));
  return task;
}

}  // namespace selective_copying
}  // namespace

TaskEntry selective_copying_task() {
  return {"selective_copying", "copy the tokens scattered among noise, in order: what to keep depends on what it is",
          selective_copying::kVersion, selective_copying::make,
          [](Fields& fields) { selective_copying::SelectiveCopyingConfig().bind(fields); }};
}

}  // namespace hippodrome
