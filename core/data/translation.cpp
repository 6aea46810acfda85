#include "core/data/translation.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/text.h"
#include "core/data/count_model.h"
#include "core/data/generated.h"
#include "core/data/pair_vocabulary.h"
#include "core/data/pairs.h"
#include "core/data/parallel_corpus.h"

namespace hippodrome {
namespace {
namespace translation {

constexpr int kVersion = 1;
// A test length of the usual list is left out where its bucket has fewer pairs.
constexpr int64_t kFewestInBucket = 16;

struct TranslateConfig {
  std::string language = "de";
  std::string path;
  std::string tokens = "bpe";
  int64_t merges = 2000;
  std::string tokenizer;
  int64_t length = 20;
  std::vector<int64_t> test_lengths;

  void bind(Fields& fields) {
    fields.text("language", language,
                "what English messages are translated to, as folders of catalogues are called: de, fr, pt_BR");
    fields.text("path", path,
                "a .tsv of sentences and translations, or a folder of catalogues; empty: those of this machine");
    fields.choice("tokens", tokens, {"bpe", "bytes"}, "symbols: learned byte pairs, or bytes");
    fields.integer("merges", merges, {0, 30000}, "byte pairs to learn from the training split");
    fields.text("tokenizer", tokenizer,
                "file of the byte pairs: read where it exists, otherwise written; empty: learned every time");
    fields.integer("length", length, {1, 1 << 20}, "tokens of the longest source while training");
    fields.integers(
        "test_lengths", test_lengths, {1, 1 << 20},
        "each tested on sources longer than the one before it; empty: 5, 10, 15, 20, 30, … 60, where there are such");
  }
};

int64_t longest_target(int64_t length) { return 2 * length + 10; }

class TranslateTask final : public PairTask {
 public:
  TranslateTask(const TranslateConfig& config, ParallelCorpus corpus, PairVocabulary vocabulary)
      : language_(config.language),
        length_(config.length),
        corpus_(std::move(corpus)),
        vocabulary_(std::move(vocabulary)) {
    for (size_t split = 0; split < pairs_.size(); ++split) {
      for (const Sentences& sentences : corpus_.splits[split]) {
        pairs_[split].push_back({vocabulary_.encode(sentences.source), vocabulary_.encode(sentences.target)});
      }
      if (split != static_cast<size_t>(Split::kTrain)) shuffle(corpus_.splits[split], pairs_[split]);
    }
    test_lengths_ = config.test_lengths.empty() ? usual_lengths() : sorted_lengths(config.test_lengths, length_);
  }

  int64_t vocabulary() const override { return vocabulary_.size(); }
  Metric metric() const override { return Metric::kBitsPerByte; }
  int64_t default_length() const override { return length_; }
  std::vector<int64_t> test_lengths() const override { return test_lengths_; }

  absl::StatusOr<std::vector<Pair>> pairs(const BatchRequest& request) const override {
    RETURN_IF_ERROR(check_request(request));
    RETURN_IF_ERROR(accepts(request.split, request.length));
    const std::vector<const Pair*>& chosen = of_length(request.split, request.length);
    const auto size = static_cast<int64_t>(chosen.size());
    std::vector<Pair> rows;
    if (request.split == Split::kTrain) {
      const RandomStream random = split_stream("translate", request);
      const auto drawn = [&](int64_t row) {
        return chosen[static_cast<size_t>(random.fork(static_cast<uint64_t>(row)).below(size))];
      };
      const auto length_of = [&](int64_t row) {
        const Pair& pair = *drawn(row);
        return static_cast<int64_t>(pair.source.size() << 32 | pair.target.size());
      };
      for (const int64_t row : rows_of_similar_length(request, random, length_of)) rows.push_back(*drawn(row));
      return rows;
    }
    const int64_t first = first_row(request);
    if (first >= size) {
      return absl::OutOfRangeError(absl::StrCat("the ", split_name(request.split), " split holds ", size,
                                                " pairs of length ", request.length, ", so step ", request.step, " of ",
                                                request.rows, " rows is beyond its end: use fewer steps"));
    }
    for (int64_t row = first; row < std::min(first + request.rows, size); ++row)
      rows.push_back(*chosen[static_cast<size_t>(row)]);
    return rows;
  }

  int64_t available_steps(Split split, int64_t rows, int64_t length) const override {
    return split == Split::kTrain ? 0 : (static_cast<int64_t>(of_length(split, length).size()) + rows - 1) / rows;
  }

  MetricLevel chance(int64_t length) const override {
    const double tokens = per_byte(length, [](int64_t, int64_t) { return 1.0; });
    return {"uniform", std::log2(static_cast<double>(vocabulary())) * tokens};
  }

  std::vector<MetricLevel> plateaus(int64_t length) const override {
    std::call_once(counted_, [this] { count(); });
    const auto bits = [](const CountModel& model, std::span<const uint16_t> history, int64_t id) {
      return -std::log2(model.probability(history, static_cast<uint16_t>(id)));
    };
    return {{"unigram", per_byte(length, [&](int64_t, int64_t id) { return bits(*unigram_, {}, id); })},
            {"bigram", per_byte(length, [&](int64_t before, int64_t id) {
               const auto history = static_cast<uint16_t>(before);
               return bits(*bigram_, {&history, 1}, id);
             })}};
  }

  std::string source_text(const std::vector<int64_t>& ids) const override { return vocabulary_.text(ids); }
  std::string target_text(const std::vector<int64_t>& ids) const override { return vocabulary_.text(ids); }
  std::vector<std::string> source_symbols(const std::vector<int64_t>& ids) const override {
    return vocabulary_.labels(ids);
  }
  std::vector<std::string> target_symbols(const std::vector<int64_t>& ids) const override {
    return vocabulary_.labels(ids);
  }

  absl::StatusOr<std::vector<int64_t>> encode_source(std::string_view text) const override {
    const std::string line = squeezed(text);
    if (line.empty()) return absl::InvalidArgumentError("the line is empty: give a sentence to translate");
    return vocabulary_.encode(line);
  }

  ConfigValue provenance() const override {
    ConfigValue value = provenance_of("translate", kVersion);
    value.set("corpus", ConfigValue(corpus_.source));
    value.set("language", ConfigValue(language_));
    value.set("split_by", ConfigValue(corpus_.split_by));
    value.set("unit", ConfigValue(std::string("bits per byte of the target")));
    value.set("tokens", ConfigValue(vocabulary_.description()));
    value.set("vocabulary", ConfigValue(vocabulary()));
    for (const Split split : {Split::kTrain, Split::kValidation, Split::kTest}) {
      std::string text;
      for (const Sentences& pair : corpus_.split(split)) absl::StrAppend(&text, pair.source, "\t", pair.target, "\n");
      ConfigValue part;
      part.set("pairs", ConfigValue(static_cast<int64_t>(corpus_.split(split).size())));
      part.set("sha256", ConfigValue(sha256(text)));
      value.set(split_name(split), std::move(part));
    }
    value.set("files", ConfigValue(corpus_.files));
    value.set("unreadable_files", ConfigValue(corpus_.unreadable_files));
    value.set("dropped", ConfigValue(corpus_.dropped));
    value.set("duplicates", ConfigValue(corpus_.duplicates));
    return value;
  }

  std::string example() const override {
    return "Save the file -> Die Datei speichern: the translation, token by token";
  }

  // Whether a split has sources of this length.
  absl::Status accepts(Split split, int64_t length) const {
    if (!of_length(split, length).empty()) {
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(absl::StrCat("of the ", corpus_.split(split).size(), " pairs in the ",
                                                   split_name(split), " split of ", corpus_.source, ", none has ",
                                                   split == Split::kTest ? previous_length(length) + 1 : 1, " to ",
                                                   length, " tokens in its source: give other lengths or more pairs"));
  }

 protected:
  int64_t target_bytes(const Pair& pair) const override { return vocabulary_.bytes(pair.target) + 1; }

 private:
  // In the order of a hash of the sources, so that the beginning of a split is as good as all of it.
  static void shuffle(std::vector<Sentences>& sentences, std::vector<Pair>& pairs) {
    std::vector<std::pair<uint64_t, size_t>> order;
    for (size_t i = 0; i < pairs.size(); ++i)
      order.emplace_back(RandomStream(0, sentences[i].source).fork("order").bits(), i);
    std::sort(order.begin(), order.end());
    std::vector<Pair> shuffled;
    for (const auto& [hash, i] : order) shuffled.push_back(std::move(pairs[i]));
    pairs = std::move(shuffled);
  }

  std::vector<int64_t> usual_lengths() const {
    std::vector<int64_t> kept;
    for (const int64_t length : sorted_lengths({5, 10, 15, 20, 30, 40, 50, 60}, length_)) {
      const int64_t before = kept.empty() ? 0 : kept.back();
      const auto& test = pairs_[static_cast<size_t>(Split::kTest)];
      const int64_t count =
          std::count_if(test.begin(), test.end(), [&](const Pair& pair) { return fits(pair, before, length); });
      if (count >= kFewestInBucket || length == length_) kept.push_back(length);
    }
    return kept;
  }

  static bool fits(const Pair& pair, int64_t longer_than, int64_t length) {
    const auto size = static_cast<int64_t>(pair.source.size());
    return size > longer_than && size <= length && static_cast<int64_t>(pair.target.size()) <= longest_target(length);
  }

  // The test length before this one, or 0.
  int64_t previous_length(int64_t length) const {
    const auto after = std::lower_bound(test_lengths_.begin(), test_lengths_.end(), length);
    return after == test_lengths_.begin() ? 0 : *(after - 1);
  }

  const std::vector<const Pair*>& of_length(Split split, int64_t length) const {
    const std::lock_guard lock(mutex_);
    const auto [found, is_new] = of_length_.try_emplace({split, length});
    if (is_new) {
      const int64_t longer_than = split == Split::kTest ? previous_length(length) : 0;
      for (const Pair& pair : pairs_[static_cast<size_t>(split)]) {
        if (fits(pair, longer_than, length)) found->second.push_back(&pair);
      }
    }
    return found->second;
  }

  // Per byte of the targets on the test split at a length: the sum of what each token (or end) costs after the one
  // before.
  template <class Bits>
  double per_byte(int64_t length, Bits bits_of) const {
    double bits = 0.0;
    int64_t bytes = 0;
    for (const Pair* pair : of_length(Split::kTest, length)) {
      int64_t before = kBegin;
      for (const int64_t id : pair->target) {
        bits += bits_of(before, id);
        before = id;
      }
      bits += bits_of(before, kEnd);
      bytes += target_bytes(*pair);
    }
    return bytes > 0 ? bits / static_cast<double>(bytes) : 0.0;
  }

  void count() const {
    std::vector<uint16_t> said, begun;
    for (const Pair& pair : pairs_[static_cast<size_t>(Split::kTrain)]) {
      begun.push_back(kBegin);
      said.insert(said.end(), pair.target.begin(), pair.target.end());
      begun.insert(begun.end(), pair.target.begin(), pair.target.end());
      said.push_back(kEnd);
      begun.push_back(kEnd);
    }
    unigram_ = std::make_unique<CountModel>(1, vocabulary(), said);
    bigram_ = std::make_unique<CountModel>(2, vocabulary(), begun);
  }

  std::string language_;
  int64_t length_;
  ParallelCorpus corpus_;
  PairVocabulary vocabulary_;
  std::array<std::vector<Pair>, 3> pairs_;  // by Split
  std::vector<int64_t> test_lengths_;
  mutable std::mutex mutex_;
  mutable std::map<std::pair<Split, int64_t>, std::vector<const Pair*>> of_length_;
  // Counted when first asked for: the children of a race never ask.
  mutable std::once_flag counted_;
  mutable std::unique_ptr<CountModel> unigram_, bigram_;
};

absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer_of(const TranslateConfig& config, const ParallelCorpus& corpus) {
  if (config.tokens == "bytes") {
    if (!config.tokenizer.empty())
      return absl::InvalidArgumentError("tokens = \"bytes\" needs no tokenizer: leave one of the two out");
    return byte_tokenizer();
  }
  ASSIGN_OR_RETURN(auto tokenizer, byte_pairs_of(corpus.split(Split::kTrain), config.merges, config.tokenizer));
  if (tokenizer->vocabulary() > (1 << 16) - kFirstSymbol) {
    return absl::InvalidArgumentError(absl::StrCat(config.tokenizer, " has ", tokenizer->vocabulary(),
                                                   " tokens: give one of at most ", (1 << 16) - kFirstSymbol));
  }
  return tokenizer;
}

absl::StatusOr<std::unique_ptr<Task>> made(const TranslateConfig& config) {
  ASSIGN_OR_RETURN(ParallelCorpus corpus, read_parallel_corpus(config.path, config.language));
  ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer, tokenizer_of(config, corpus));
  auto task = std::make_unique<TranslateTask>(config, std::move(corpus), PairVocabulary(std::move(tokenizer)));
  RETURN_IF_ERROR(task->accepts(Split::kTrain, config.length));
  RETURN_IF_ERROR(task->accepts(Split::kValidation, config.length));
  for (const int64_t length : task->test_lengths()) RETURN_IF_ERROR(task->accepts(Split::kTest, length));
  return task;
}

absl::StatusOr<std::unique_ptr<Task>> make(const ConfigValue& config, const std::string& path) {
  ASSIGN_OR_RETURN(const TranslateConfig parsed, read_config<TranslateConfig>(config, path));
  auto task = made(parsed);
  return task.ok() ? std::move(task) : config_error(config, path, std::string(task.status().message()));
}

}  // namespace translation
}  // namespace

TaskEntry translate_task() {
  return {"translate", "sentences into another language: program messages by default, any .tsv of pairs by path",
          translation::kVersion, translation::make,
          [](Fields& fields) { translation::TranslateConfig().bind(fields); }};
}

}  // namespace hippodrome
