#include "core/data/sequence_pairs.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/data/generated.h"
#include "core/data/pairs.h"

namespace hippodrome {
namespace {
namespace sequence_pairs {

constexpr int kVersion = 1;

enum class Kind { kReverse, kCopy, kSort };

std::string name_of(Kind kind) { return kind == Kind::kReverse ? "reverse" : kind == Kind::kCopy ? "copy" : "sort"; }

struct SequencePairsConfig {
  int64_t symbols = 16;
  int64_t length = 20;
  int64_t min_length = 1;
  std::vector<int64_t> test_lengths = {5, 10, 15, 20, 30, 40, 50, 60};

  void bind(Fields& fields) {
    fields.integer("symbols", symbols, {1, 1 << 20}, "size of the alphabet");
    fields.integer("length", length, {1, 1 << 20}, "symbols of the longest source while training");
    fields.integer("min_length", min_length, {1, 1 << 20}, "symbols of the shortest source while training");
    fields.integers("test_lengths", test_lengths, {1, 1 << 20}, "symbols of a source when testing");
  }
};

// 0 a, 1 b, … 25 z, 26 aa, 27 ab, …
std::string letters(int64_t symbol) {
  std::string text;
  for (int64_t rest = symbol; rest >= 0; rest = rest / 26 - 1)
    text.insert(text.begin(), static_cast<char>('a' + rest % 26));
  return text;
}

// What `letters` undoes; -1 for a word that is none of the first `symbols`.
int64_t symbol_of(std::string_view word, int64_t symbols) {
  int64_t value = 0;
  for (const char letter : word) {
    if (letter < 'a' || letter > 'z' || value > symbols) return -1;
    value = value * 26 + (letter - 'a' + 1);
  }
  return value > symbols ? -1 : value - 1;
}

class SequencePairsTask final : public PairTask {
 public:
  SequencePairsTask(Kind kind, const SequencePairsConfig& config)
      : kind_(kind),
        symbols_(config.symbols),
        length_(config.length),
        min_length_(config.min_length),
        test_lengths_(sorted_lengths(config.test_lengths, config.length)) {}

  int64_t vocabulary() const override { return kFirstSymbol + symbols_; }
  Metric metric() const override { return Metric::kAccuracy; }
  int64_t default_length() const override { return length_; }
  std::vector<int64_t> test_lengths() const override { return test_lengths_; }
  MetricLevel chance(int64_t) const override { return {"chance", 1.0 / static_cast<double>(symbols_ + 1)}; }

  std::vector<MetricLevel> plateaus(int64_t length) const override {
    const auto n = static_cast<double>(length), alphabet = static_cast<double>(symbols_);
    std::vector<MetricLevel> levels = {{"the end, and any symbol", (1.0 + n / alphabet) / (n + 1.0)}};
    if (kind_ == Kind::kSort) {
      const double occurs = 1.0 - std::pow(1.0 - 1.0 / alphabet, n);
      levels.push_back({"the last symbol again", (1.0 + occurs + n - alphabet * occurs) / (n + 1.0)});
    }
    return levels;
  }

  absl::StatusOr<std::vector<Pair>> pairs(const BatchRequest& request) const override {
    RETURN_IF_ERROR(check_request(request));
    if (request.split != Split::kTest && request.length < min_length_) {
      return absl::InvalidArgumentError(absl::StrCat("rows of ", name_of(kind_),
                                                     " have at least min_length = ", min_length_, " symbols, and ",
                                                     request.length, " are asked for: lower min_length"));
    }
    const RandomStream split = split_stream(name_of(kind_), request);
    const auto row_stream = [&split](int64_t row) { return split.fork(static_cast<uint64_t>(row)); };
    const auto drawn_length = [&](int64_t row) {
      return min_length_ + row_stream(row).below(request.length - min_length_ + 1);
    };
    std::vector<int64_t> rows;
    if (request.split == Split::kTrain) {
      rows = rows_of_similar_length(request, split, drawn_length);
    } else {
      for (int64_t row = 0; row < request.rows; ++row) rows.push_back(first_row(request) + row);
    }
    std::vector<Pair> pairs;
    for (const int64_t row : rows) {
      pairs.push_back(
          drawn(row_stream(row).fork("symbols"), request.split == Split::kTest ? request.length : drawn_length(row)));
    }
    return pairs;
  }

  std::string source_text(const std::vector<int64_t>& ids) const override {
    std::string text;
    for (const int64_t id : ids) {
      if (is_symbol(id)) absl::StrAppend(&text, text.empty() ? "" : " ", letters(id - kFirstSymbol));
    }
    return text;
  }
  std::string target_text(const std::vector<int64_t>& ids) const override { return source_text(ids); }
  std::vector<std::string> source_symbols(const std::vector<int64_t>& ids) const override {
    return labels_of(ids, [this](int64_t id) { return is_symbol(id) ? letters(id - kFirstSymbol) : absl::StrCat(id); });
  }
  std::vector<std::string> target_symbols(const std::vector<int64_t>& ids) const override {
    return source_symbols(ids);
  }

  absl::StatusOr<std::vector<int64_t>> encode_source(std::string_view text) const override {
    std::vector<int64_t> ids;
    while (!text.empty()) {
      if (text[0] == ' ' || text[0] == '\t') {
        text.remove_prefix(1);
        continue;
      }
      // Letters need no spaces between them while each is a symbol.
      const std::string_view word = symbols_ <= 26 ? text.substr(0, 1) : text.substr(0, text.find_first_of(" \t"));
      const int64_t symbol = symbol_of(word, symbols_);
      if (symbol < 0) {
        return absl::InvalidArgumentError(absl::StrCat("there is no symbol \"", std::string(word.substr(0, 20)),
                                                       "\" among the ", symbols_, " from a to ", letters(symbols_ - 1),
                                                       ": give some of these"));
      }
      ids.push_back(kFirstSymbol + symbol);
      text.remove_prefix(word.size());
    }
    if (ids.empty()) return absl::InvalidArgumentError("the line is empty: give symbols such as \"a b c\"");
    return ids;
  }

  ConfigValue provenance() const override {
    ConfigValue value = provenance_of(name_of(kind_), kVersion);
    value.set("symbols", ConfigValue(symbols_));
    value.set("min_length", ConfigValue(min_length_));
    return value;
  }

  std::string example() const override {
    switch (kind_) {
      case Kind::kReverse:
        return "d a b -> b a d: the symbols, last one first";
      case Kind::kCopy:
        return "d a b -> d a b: the symbols again";
      case Kind::kSort:
        return "d a b -> a b d: the symbols in the order of the alphabet";
    }
    return "";
  }

 private:
  bool is_symbol(int64_t id) const { return id >= kFirstSymbol && id < vocabulary(); }

  Pair drawn(RandomStream random, int64_t length) const {
    Pair pair;
    for (int64_t i = 0; i < length; ++i) pair.source.push_back(kFirstSymbol + random.below(symbols_));
    pair.target = pair.source;
    if (kind_ == Kind::kReverse) std::reverse(pair.target.begin(), pair.target.end());
    if (kind_ == Kind::kSort) std::sort(pair.target.begin(), pair.target.end());
    return pair;
  }

  Kind kind_;
  int64_t symbols_;
  int64_t length_;
  int64_t min_length_;
  std::vector<int64_t> test_lengths_;
};

template <Kind kind>
absl::StatusOr<std::unique_ptr<Task>> make(const ConfigValue& config, const std::string& path) {
  ASSIGN_OR_RETURN(const SequencePairsConfig parsed, read_config<SequencePairsConfig>(config, path));
  if (parsed.min_length > parsed.length) {
    return config_error(config, path,
                        absl::StrCat("min_length = ", parsed.min_length, " is above length = ", parsed.length,
                                     ": lower min_length or raise length"));
  }
  return std::make_unique<SequencePairsTask>(kind, parsed);
}

template <Kind kind>
TaskEntry entry(const std::string& doc) {
  return {name_of(kind), doc, kVersion, make<kind>, [](Fields& fields) { SequencePairsConfig().bind(fields); }};
}

}  // namespace sequence_pairs
}  // namespace

TaskEntry reverse_task() {
  using namespace sequence_pairs;
  return entry<Kind::kReverse>("a sequence backwards: pairs of source and target, tested beyond the lengths trained");
}

TaskEntry copy_task() {
  using namespace sequence_pairs;
  return entry<Kind::kCopy>("a sequence again: pairs of source and target, tested beyond the lengths trained");
}

TaskEntry sort_task() {
  using namespace sequence_pairs;
  return entry<Kind::kSort>("a sequence in the order of the alphabet: pairs of source and target");
}

}  // namespace hippodrome
