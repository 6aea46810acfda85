#include "core/data/translation.h"

#include <filesystem>
#include <fstream>
#include <set>

#include "core/data/pairs.h"
#include "core/data/parallel_corpus.h"
#include "core/io/atomic_file.h"
#include "tests/core/data/batches.h"
#include "tests/core/data/translated_lines.h"
#include "tests/test_folder.h"

namespace hippodrome::translation_test {
namespace {

using testing_data::error_of;
using testing_data::made;
using testing_data::table;
using testing_data::with;
using Ids = std::vector<int64_t>;

class Translation : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(folder_);
    write("pairs.tsv", translated_lines::lines(3000));
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void write(const std::string& name, const std::string& bytes) { ASSERT_TRUE(write_file(folder_ / name, bytes).ok()); }
  ConfigValue config(const std::string& name = "pairs.tsv") const { return table("path", (folder_ / name).string()); }
  std::vector<Pair> pairs_of(const Task& task, const BatchRequest& request) const {
    const auto pairs = task.as_pairs()->pairs(request);
    EXPECT_TRUE(pairs.ok()) << pairs.status();
    return pairs.ok() ? *pairs : std::vector<Pair>{};
  }
  // All pairs of an evaluation split.
  std::vector<Pair> all_of(const Task& task, Split split, int64_t length) const {
    std::vector<Pair> all;
    for (int64_t step = 0; step < task.available_steps(split, 7, length); ++step) {
      const std::vector<Pair> pairs = pairs_of(task, {split, 0, step, 7, length});
      all.insert(all.end(), pairs.begin(), pairs.end());
    }
    return all;
  }

  const std::filesystem::path folder_ = testing_folder::own_folder();
};

TEST_F(Translation, PairsSayTheSentencesOfTheirSplit) {
  const ParallelCorpus corpus = *read_parallel_corpus((folder_ / "pairs.tsv").string(), "de");
  for (const std::string tokens : {"bytes", "bpe"}) {
    const auto task =
        made("translate", with(with(config(), "tokens", tokens), "length", int64_t{tokens == "bytes" ? 200 : 30}));
    const PairTask& pairs = *task->as_pairs();
    for (const Split split : {Split::kValidation, Split::kTest}) {
      std::set<std::pair<std::string, std::string>> expected, said;
      for (const Sentences& pair : corpus.split(split)) expected.emplace(pair.source, pair.target);
      for (const int64_t length : split == Split::kTest ? task->test_lengths() : Ids{task->default_length()}) {
        for (const Pair& pair : all_of(*task, split, length)) {
          EXPECT_TRUE(said.emplace(pairs.source_text(pair.source), pairs.target_text(pair.target)).second);
          EXPECT_EQ(*pairs.encode_source(pairs.source_text(pair.source)), pair.source);
        }
      }
      EXPECT_EQ(said, expected);
    }
    std::set<std::string> trained;
    for (const Sentences& pair : corpus.split(Split::kTrain)) trained.insert(pair.source);
    for (const Pair& pair : pairs_of(*task, {Split::kTrain, 1, 0, 200, task->default_length()})) {
      EXPECT_TRUE(trained.contains(pairs.source_text(pair.source)));
    }
  }
}

TEST_F(Translation, TestLengthsAreBuckets) {
  const auto task = made("translate", with(config(), "length", int64_t{12}));
  int64_t before = 0;
  for (const int64_t length : task->test_lengths()) {
    for (const Pair& pair : all_of(*task, Split::kTest, length)) {
      EXPECT_GT(static_cast<int64_t>(pair.source.size()), before);
      EXPECT_LE(static_cast<int64_t>(pair.source.size()), length);
    }
    before = length;
  }
  for (const Split split : {Split::kTrain, Split::kValidation}) {
    std::set<size_t> lengths;
    for (const Pair& pair : pairs_of(*task, {split, 1, 0, split == Split::kTrain ? 60 : 20, 12}))
      lengths.insert(pair.source.size());
    EXPECT_GT(lengths.size(), split == Split::kTrain ? 0u : 5u);
    EXPECT_LE(*lengths.rbegin(), 12u);
  }
  ConfigValue config = this->config();
  config.set("test_lengths", ConfigValue(ConfigValue::List{ConfigValue(int64_t{5}), ConfigValue(int64_t{24})}));
  EXPECT_EQ(made("translate", config)->test_lengths(), (Ids{5, 20, 24}));
  config.set("test_lengths", ConfigValue(ConfigValue::List{ConfigValue(int64_t{90}), ConfigValue(int64_t{99})}));
  const std::string error = error_of("translate", config);
  EXPECT_NE(error.find("none has 91 to 99 tokens in its source"), std::string::npos) << error;
}

TEST_F(Translation, TheLastBatchHoldsWhatIsLeft) {
  const auto task = made("translate", config());
  const auto pairs = static_cast<int64_t>(all_of(*task, Split::kValidation, 20).size());
  EXPECT_GT(pairs, 50);
  EXPECT_EQ(task->available_steps(Split::kTrain, 7, 20), 0);
  EXPECT_EQ(task->available_steps(Split::kValidation, pairs - 1, 20), 2);
  EXPECT_EQ(task->available_steps(Split::kValidation, 10 * pairs, 20), 1);
  EXPECT_EQ(task->batch({Split::kValidation, 0, 1, pairs - 1, 20})->tokens.size(0), 1);
  EXPECT_EQ(task->batch({Split::kValidation, 0, 0, 10 * pairs, 20})->tokens.size(0), pairs);
  const absl::Status beyond = task->batch({Split::kValidation, 0, 2, pairs - 1, 20}).status();
  EXPECT_NE(beyond.message().find("is beyond its end"), std::string::npos) << beyond;
}

TEST_F(Translation, LossIsPerByteOfTheTarget) {
  const auto task = made("translate", config());
  const PairTask& pairs = *task->as_pairs();
  const BatchRequest request{Split::kTest, 0, 0, 8, 20};
  int64_t bytes = 0, labels = 0;
  for (const Pair& pair : pairs_of(*task, request)) {
    bytes += static_cast<int64_t>(pairs.target_text(pair.target).size()) + 1;
    labels += static_cast<int64_t>(pair.target.size()) + 1;
  }
  for (const bool apart : {false, true}) {
    BatchRequest either = request;
    either.apart = apart;
    const Batch batch = *task->batch(either);
    EXPECT_EQ(batch.target_bytes, bytes);
    EXPECT_EQ(batch.labels.ge(0).sum().item().toLong(), labels);
  }
  EXPECT_GT(bytes, 2 * labels);
  // Of bytes, each label is one.
  const auto by_bytes = made("translate", with(with(config(), "tokens", "bytes"), "length", int64_t{100}));
  const Batch batch = *by_bytes->batch({Split::kTest, 0, 0, 8, 100});
  EXPECT_EQ(batch.target_bytes, batch.labels.ge(0).sum().item().toLong());
  EXPECT_DOUBLE_EQ(by_bytes->chance(100).value, std::log2(258.0));
}

// Words are drawn alike and by themselves, so that both levels are known: twelve words and the end after one of 24.
TEST_F(Translation, PlateausLookOnlyAtTheTarget) {
  const auto task = made("translate", config());
  const double chance = task->chance(20).value;
  const std::vector<MetricLevel> levels = task->plateaus(20);
  ASSERT_EQ(levels.size(), 2u);
  EXPECT_LT(levels[0].value, 0.6 * chance);
  EXPECT_NEAR(levels[0].value, levels[1].value, 0.05 * levels[0].value);
  double bytes = 0.0, labels = 0.0;
  for (const Pair& pair : all_of(*task, Split::kTest, 20)) {
    bytes += static_cast<double>(task->as_pairs()->target_text(pair.target).size()) + 1.0;
    labels += static_cast<double>(pair.target.size()) + 1.0;
  }
  EXPECT_NEAR(levels[0].value, std::log2(12.0) * labels / bytes, 0.05 * levels[0].value);
}

TEST_F(Translation, AVocabularyIsLearnedOnceAndKept) {
  const std::string file = (folder_ / "tokenizer.json").string();
  const auto learned = made("translate", with(with(config(), "merges", int64_t{40}), "tokenizer", file));
  EXPECT_EQ(learned->vocabulary(), 2 + 256 + 40);
  ASSERT_TRUE(std::filesystem::exists(file));
  // Other text, the same vocabulary, whatever `merges` says.
  write("other.tsv", "zzz zzz zzz\tyyy yyy yyy\n" + translated_lines::lines(1500));
  const auto kept = made("translate", with(config("other.tsv"), "tokenizer", file));
  EXPECT_EQ(kept->vocabulary(), learned->vocabulary());
  EXPECT_EQ(*kept->as_pairs()->encode_source("open the window"),
            *learned->as_pairs()->encode_source("open the window"));
  EXPECT_EQ(kept->as_pairs()->target_symbols({kBegin, 2 + ' ', 2 + 0xC3, kEnd}),
            (std::vector<std::string>{"<s>", "\xE2\x96\x81", "\\xC3", "</s>"}));
  EXPECT_EQ(kept->as_pairs()->target_text({kBegin, 2 + 0xC3, 2 + 'a', kEnd, 9999, -3}),
            "\xEF\xBF\xBD"
            "a");
  std::string labels;
  const std::vector<int64_t> never = *kept->as_pairs()->encode_source("never");
  for (const std::string& label : kept->as_pairs()->source_symbols(never)) labels += label;
  EXPECT_EQ(labels, "\xE2\x96\x81never");

  EXPECT_NE(
      error_of("translate", with(config(), "tokenizer", (folder_ / "vocabulary").string())).find("end it in .json"),
      std::string::npos);
  EXPECT_NE(error_of("translate", with(with(config(), "tokenizer", file), "tokens", "bytes"))
                .find("leave one of the two out"),
            std::string::npos);
  EXPECT_EQ(kept->as_pairs()->encode_source(" \t").status().message(),
            "the line is empty: give a sentence to translate");
}

TEST_F(Translation, ProvenanceSaysWhatTheDataAre) {
  const ConfigValue provenance = made("translate", config())->provenance();
  int64_t pairs = 0;
  for (const char* split : {"train", "validation", "test"}) {
    pairs += *provenance.find(split)->find("pairs")->integer();
    EXPECT_EQ(provenance.find(split)->find("sha256")->string()->size(), 64u);
  }
  EXPECT_EQ(pairs + *provenance.find("duplicates")->integer(), 3000);
  EXPECT_EQ(*provenance.find("corpus")->string(), (folder_ / "pairs.tsv").string());
  EXPECT_EQ(*provenance.find("unit")->string(), "bits per byte of the target");
}

TEST_F(Translation, SaysWhatIsMissing) {
  write("few.tsv", "one\teins\ntwo\tzwei\n");
  const std::string few = error_of("translate", config("few.tsv"));
  EXPECT_NE(few.find("few.tsv, none has "), std::string::npos) << few;
  const std::string missing = error_of("translate", config("none.tsv"));
  EXPECT_NE(missing.find("[tasks.translate]: there is no file or folder"), std::string::npos) << missing;
}

// What this machine's programs say, where it has catalogues.
TEST(TranslationOfThisMachine, IsReadWhereThereIsSome) {
  const auto task = make_task("translate", ConfigValue(), "");
  if (!task.ok()) {
    const std::string message(task.status().message());
    EXPECT_TRUE(message.find("there are no messages translated to \"de\"") != std::string::npos ||
                message.find("give other lengths or more pairs") != std::string::npos)
        << message;
    GTEST_SKIP() << "too few German catalogues here";
  }
  const ConfigValue provenance = (*task)->provenance();
  EXPECT_GT(*provenance.find("train")->find("pairs")->integer(), 100);
  const PairTask& pairs = *(*task)->as_pairs();
  for (const int64_t length : (*task)->test_lengths()) {
    const std::vector<MetricLevel> levels = (*task)->plateaus(length);
    EXPECT_LT(levels[0].value, (*task)->chance(length).value);
    EXPECT_LT(levels[1].value, levels[0].value);
    const auto rows = pairs.pairs({Split::kTest, 0, 0, 4, length});
    ASSERT_TRUE(rows.ok()) << rows.status();
    for (const Pair& pair : *rows) EXPECT_FALSE(pairs.target_text(pair.target).empty());
  }
}

}  // namespace
}  // namespace hippodrome::translation_test
