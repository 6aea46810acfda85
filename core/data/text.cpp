#include "core/data/text.h"

#include <cmath>
#include <memory>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/data/corpus.h"
#include "core/data/count_model.h"
#include "core/data/generated.h"

namespace hippodrome {
namespace {
namespace text {

constexpr int kVersion = 1;
constexpr int64_t kCountedSymbols = int64_t{1} << 24;
constexpr int64_t kMeasuredSymbols = int64_t{1} << 22;

struct TextConfig {
  std::string path;
  int64_t length = 256;
  std::vector<int64_t> test_lengths;
  int64_t max_bytes = 0;
  int64_t vocabulary = 0;
  std::string tokenizer;

  void bind(Fields& fields) {
    fields.text("path", path,
                "file, folder or nanoGPT-style .bin of tokens; empty: the C++ headers that LibTorch ships");
    fields.integer("length", length, {1, 1 << 24}, "bytes (or tokens) in a window while training");
    fields.integers("test_lengths", test_lengths, {1, 1 << 24},
                    "bytes (or tokens) in a window when testing; empty: as in training");
    fields.integer("max_bytes", max_bytes, {0, int64_t{1} << 40},
                   "read at most so many bytes; 0: 8 MB of the default corpus, all of a path");
    fields.integer("vocabulary", vocabulary, {0, 1 << 16}, "ids in a .bin of tokens; 0: the largest id plus one");
    fields.text("tokenizer", tokenizer,
                "tokens instead of bytes: a folder or file with tokenizer.json, tokenizer.model or rwkv_vocab*.txt");
  }
};

class TextTask final : public Task {
 public:
  TextTask(const TextConfig& config, Corpus corpus)
      : length_(config.length),
        test_lengths_(sorted_lengths(config.test_lengths, config.length)),
        corpus_(std::move(corpus)) {}

  int64_t vocabulary() const override { return corpus_.vocabulary; }
  Metric metric() const override { return Metric::kBitsPerByte; }
  int64_t default_length() const override { return length_; }
  std::vector<int64_t> test_lengths() const override { return test_lengths_; }

  absl::StatusOr<Batch> batch(const BatchRequest& request) const override {
    ASSIGN_OR_RETURN(Batch batch, blank_batch(request));
    RETURN_IF_ERROR(accepts(request.split, request.length));
    const SymbolStream& stream = corpus_.split(request.split);
    const bool train = request.split == Split::kTrain;
    const int64_t windows = (stream.size() - 1) / request.length;
    const int64_t first = first_row(request);
    if (!train && first + request.rows > windows) {
      return absl::OutOfRangeError(absl::StrCat(
          "the ", split_name(request.split), " split holds ", windows, " windows of length ", request.length,
          ", so step ", request.step, " of ", request.rows, " rows is beyond its end: use fewer rows or steps"));
    }
    const RandomStream random = split_stream("text", request);
    std::vector<int64_t> window(request.length + 1);
    int64_t* tokens = batch.tokens.mutable_data_ptr<int64_t>();
    int64_t* labels = batch.labels.mutable_data_ptr<int64_t>();
    for (int64_t row = 0; row < request.rows; ++row, tokens += request.length, labels += request.length) {
      const int64_t start = train
                                ? random.fork(static_cast<uint64_t>(first + row)).below(stream.size() - request.length)
                                : (first + row) * request.length;
      stream.copy(start, request.length + 1, window.data());
      std::copy(window.begin(), window.end() - 1, tokens);
      std::copy(window.begin() + 1, window.end(), labels);
    }
    return batch;
  }

  MetricLevel chance(int64_t) const override { return {"uniform", std::log2(static_cast<double>(vocabulary()))}; }

  std::vector<MetricLevel> plateaus(int64_t) const override {
    std::call_once(plateaus_once_, [this] { plateaus_ = {{"unigram", count_level(1)}, {"bigram", count_level(2)}}; });
    return plateaus_;
  }

  MetricLevel floor() const override {
    std::call_once(floor_once_, [this] { floor_ = {"5-gram model", count_level(5)}; });
    return floor_;
  }

  int64_t available_steps(Split split, int64_t rows, int64_t length) const override {
    return split == Split::kTrain ? 0 : (corpus_.split(split).size() - 1) / length / rows;
  }

  ConfigValue provenance() const override {
    ConfigValue value = provenance_of("text", kVersion);
    value.set("corpus", ConfigValue(corpus_.source));
    value.set("split_by", ConfigValue(corpus_.split_by));
    value.set("unit", ConfigValue(std::string(corpus_.split(Split::kTrain).wide ? "bits per token" : "bits per byte")));
    value.set("vocabulary", ConfigValue(corpus_.vocabulary));
    for (const Split split : {Split::kTrain, Split::kValidation, Split::kTest}) {
      const SymbolStream& stream = corpus_.split(split);
      ConfigValue part;
      part.set("files", ConfigValue(stream.files));
      part.set("bytes", ConfigValue(static_cast<int64_t>(stream.bytes.size())));
      part.set("sha256", ConfigValue(stream.sha256));
      value.set(split_name(split), std::move(part));
    }
    value.set("binary_files_skipped", ConfigValue(corpus_.binary_files));
    value.set("files_beyond_max_bytes", ConfigValue(corpus_.files_left_out));
    return value;
  }

  std::string example() const override { return "i n t 6 4 _ t -> n t 6 4 _ t ·: the next byte, everywhere"; }

  // Whether a window of this length, and the symbol after it, fit into the split.
  absl::Status accepts(Split split, int64_t length) const {
    const int64_t size = corpus_.split(split).size();
    if (size <= length) {
      const bool files = corpus_.split_by == "file";
      return absl::InvalidArgumentError(absl::StrCat(
          "the ", split_name(split), " split of ", corpus_.source, " has ", size, " symbols, too few for windows of ",
          length,
          files
              ? ": files go to splits as a whole, so give more of them, join them into one file, or shorten the length"
              : ": give a longer text or shorten the length"));
    }
    return absl::OkStatus();
  }

 private:
  // Bits per symbol on the test split of an n-gram model of the training split.
  double count_level(int64_t order) const {
    const CountModel model(order, vocabulary(), corpus_.split(Split::kTrain).first(kCountedSymbols));
    return model.bits_per_symbol(corpus_.split(Split::kTest).first(kMeasuredSymbols));
  }

  int64_t length_;
  std::vector<int64_t> test_lengths_;
  Corpus corpus_;
  // Counted when first asked for: the children of a race never ask.
  mutable std::once_flag plateaus_once_;
  mutable std::vector<MetricLevel> plateaus_;
  mutable std::once_flag floor_once_;
  mutable MetricLevel floor_;
};

absl::StatusOr<Corpus> read(const TextConfig& config) {
  ASSIGN_OR_RETURN(Corpus corpus, read_corpus(config.path, config.max_bytes, config.vocabulary));
  if (config.tokenizer.empty()) {
    return corpus;
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, load_tokenizer(config.tokenizer));
  return tokenized(std::move(corpus), *tokenizer);
}

absl::StatusOr<std::unique_ptr<Task>> make(const ConfigValue& config, const std::string& path) {
  ASSIGN_OR_RETURN(const TextConfig parsed, read_config<TextConfig>(config, path));
  absl::StatusOr<Corpus> corpus = read(parsed);
  if (!corpus.ok()) {
    return config_error(config, path, std::string(corpus.status().message()));
  }
  auto task = std::make_unique<TextTask>(parsed, *std::move(corpus));
  for (const Split split : {Split::kTrain, Split::kValidation, Split::kTest}) {
    for (const int64_t length : task->test_lengths()) {
      const absl::Status status =
          task->accepts(split, split == Split::kTest ? length : std::min(length, task->default_length()));
      if (!status.ok()) {
        return config_error(config, path, std::string(status.message()));
      }
    }
  }
  return task;
}

}  // namespace text
}  // namespace

TaskEntry text_task() {
  return {"text", "the next byte of real text: C++ headers by default, any file or folder by path", text::kVersion,
          text::make, [](Fields& fields) { text::TextConfig().bind(fields); }};
}

}  // namespace hippodrome
