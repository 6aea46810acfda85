#include "core/data/induction.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/data/generated.h"

namespace hippodrome {
namespace {
namespace induction {

constexpr int kVersion = 1;

struct InductionConfig {
  int64_t vocabulary = 16;
  int64_t length = 64;
  std::vector<int64_t> test_lengths;

  void bind(Fields& fields) {
    fields.integer("vocabulary", vocabulary, {3, 1 << 20}, "ids in all: symbols and the special token");
    fields.integer("length", length, {3, 1 << 24}, "tokens in a row while training");
    fields.integers("test_lengths", test_lengths, {3, 1 << 24},
                    "tokens in a row when testing; empty: 1, 2, 4, 8 and 16 times the trained length");
  }
};

class InductionTask final : public GeneratedTask {
 public:
  explicit InductionTask(const InductionConfig& config)
      : GeneratedTask("induction", config.length,
                      config.test_lengths.empty() ? multiples(config.length, {1, 2, 4, 8, 16}) : config.test_lengths),
        vocabulary_(config.vocabulary) {}

  int64_t vocabulary() const override { return vocabulary_; }
  MetricLevel chance(int64_t) const override { return {"chance", guess()}; }

  std::vector<MetricLevel> plateaus(int64_t length) const override {
    if (length <= default_length()) {
      return {};
    }
    const double seen = static_cast<double>(default_length() - 2) / static_cast<double>(length - 2);
    return {{"as far back as trained", seen + (1.0 - seen) * guess()}};
  }

  ConfigValue provenance() const override {
    ConfigValue value = provenance_of("induction", kVersion);
    value.set("vocabulary", ConfigValue(vocabulary_));
    value.set("alphabet", ConfigValue(std::string("V-1 symbols and one special token, which occurs twice")));
    return value;
  }

  std::string example() const override {
    return "3 0 S 2 2 4 0 1 S -> . . . . . . . . 2: what followed the special token S the first time?";
  }

 protected:
  absl::Status accepts(int64_t length) const override {
    if (length < 3) {
      return absl::InvalidArgumentError(
          absl::StrCat("induction needs rows of at least 3 (special token, symbol, special token), not ", length));
    }
    return absl::OkStatus();
  }

  void fill(const Rows& rows) const override {
    const int64_t special = vocabulary_ - 1;
    const int64_t last = rows.length - 1;
    for (int64_t row = 0; row < rows.count; ++row) {
      RandomStream random = rows.random(row);
      int64_t* tokens = rows.tokens_of(row);
      const int64_t place = random.below(rows.length - 2);
      for (int64_t t = 0; t < last; ++t) {
        tokens[t] = random.below(special);
      }
      tokens[place] = special;
      tokens[last] = special;
      rows.labels_of(row)[last] = tokens[place + 1];
    }
  }

 private:
  double guess() const { return 1.0 / static_cast<double>(vocabulary_ - 1); }

  int64_t vocabulary_;
};

absl::StatusOr<std::unique_ptr<Task>> make(const ConfigValue& config, const std::string& path) {
  ASSIGN_OR_RETURN(const InductionConfig parsed, read_config<InductionConfig>(config, path));
  return std::make_unique<InductionTask>(parsed);
}

}  // namespace induction
}  // namespace

TaskEntry induction_task() {
  return {"induction", "what followed the special token before: recall by content over any distance",
          induction::kVersion, induction::make, [](Fields& fields) { induction::InductionConfig().bind(fields); }};
}

}  // namespace hippodrome
