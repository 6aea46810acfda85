#include "core/data/parity.h"

#include <memory>
#include <utility>

#include "core/data/generated.h"

namespace hippodrome {
namespace {
namespace parity {

constexpr int kVersion = 1;

struct ParityConfig {
  int64_t length = 40;
  std::vector<int64_t> test_lengths = {40, 64, 128, 256};
  std::string label = "every";

  void bind(Fields& fields) {
    fields.integer("length", length, {1, 1 << 24}, "bits in a row while training");
    fields.integers("test_lengths", test_lengths, {1, 1 << 24}, "bits in a row when testing");
    fields.choice("label", label, {"every", "last"}, "ask for the parity after every bit, or after the last one only");
  }
};

class ParityTask final : public GeneratedTask {
 public:
  explicit ParityTask(ParityConfig config)
      : GeneratedTask("parity", config.length, config.test_lengths), every_(config.label == "every") {}

  int64_t vocabulary() const override { return 2; }
  MetricLevel chance(int64_t) const override { return {"chance", 0.5}; }

  std::vector<MetricLevel> plateaus(int64_t length) const override {
    if (!every_) {
      return {};
    }
    const double positions = static_cast<double>(length);
    const double trained = static_cast<double>(default_length());
    std::vector<MetricLevel> levels = {{"the bit itself", 0.5 + 0.5 / positions}};
    if (positions > trained) {
      levels.push_back({"no further than trained", 0.5 + 0.5 * trained / positions});
    }
    return levels;
  }

  ConfigValue provenance() const override {
    ConfigValue value = provenance_of("parity", kVersion);
    value.set("label", ConfigValue(std::string(every_ ? "every" : "last")));
    return value;
  }

  std::string example() const override {
    return every_ ? "1 0 1 1 0 -> 1 1 0 1 1: is the number of ones so far odd?"
                  : "1 0 1 1 0 -> . . . . 1: is the number of ones odd?";
  }

 protected:
  absl::Status accepts(int64_t) const override { return absl::OkStatus(); }

  void fill(const Rows& rows) const override {
    for (int64_t row = 0; row < rows.count; ++row) {
      const RandomStream random = rows.random(row);
      int64_t* tokens = rows.tokens_of(row);
      int64_t* labels = rows.labels_of(row);
      int64_t odd = 0;
      uint64_t bits = 0;
      for (int64_t t = 0; t < rows.length; ++t) {
        if (t % 64 == 0) {
          bits = random.bits_at(static_cast<uint64_t>(t / 64));
        }
        tokens[t] = static_cast<int64_t>(bits >> (t % 64) & 1);
        odd ^= tokens[t];
        if (every_ || t + 1 == rows.length) {
          labels[t] = odd;
        }
      }
    }
  }

 private:
  bool every_;
};

absl::StatusOr<std::unique_ptr<Task>> make(const ConfigValue& config, const std::string& path) {
  ASSIGN_OR_RETURN(ParityConfig parsed, read_config<ParityConfig>(config, path));
  return std::make_unique<ParityTask>(std::move(parsed));
}

}  // namespace parity
}  // namespace

TaskEntry parity_task() {
  return {"parity", "whether the ones so far are odd: one bit of state, and no shortcut", parity::kVersion,
          parity::make, [](Fields& fields) { parity::ParityConfig().bind(fields); }};
}

}  // namespace hippodrome
