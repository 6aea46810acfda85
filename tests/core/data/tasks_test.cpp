#include <filesystem>
#include <set>

#include "core/base/random.h"
#include "core/data/pairs.h"
#include "core/io/atomic_file.h"
#include "tests/core/data/batches.h"
#include "tests/core/data/translated_lines.h"
#include "tests/test_folder.h"

namespace hippodrome {
namespace {

using testing_data::batch_of;
using testing_data::error_of;
using testing_data::ids;
using testing_data::made;
using testing_data::table;

// A task and what identifies its generator: sums over the first batch (training, seed 1, 4 rows at the trained length).
struct Case {
  std::string label;
  std::string task;
  ConfigValue config;
  int version;
  std::vector<int64_t> first_tokens;  // the first 12; empty where the data are not ours (text)
  uint64_t checksum;                  // of all tokens and labels
};

std::vector<Case> cases() {
  const ConfigValue last = table("label", std::string("last"));
  const ConfigValue filled = table("filler", std::string("random"));
  return {
      {"text", "text", ConfigValue(), 1, {}, 0},
      {"parity", "parity", ConfigValue(), 1, {1, 0, 1, 0, 0, 1, 1, 1, 1, 1, 0, 1}, 10631498280700683911ull},
      {"parity_last", "parity", last, 1, {1, 0, 1, 0, 0, 1, 1, 1, 1, 1, 0, 1}, 12863496077886262312ull},
      {"selective_copying",
       "selective_copying",
       ConfigValue(),
       1,
       {0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 4, 0},
       1593082372321014328ull},
      {"induction", "induction", ConfigValue(), 1, {9, 5, 10, 14, 1, 1, 4, 7, 13, 3, 5, 15}, 5495069225636597158ull},
      {"recall",
       "recall",
       ConfigValue(),
       1,
       {102, 414, 167, 389, 125, 306, 2, 335, 0, 0, 0, 0},
       5477438358734349568ull},
      {"recall_random",
       "recall",
       filled,
       1,
       {102, 414, 167, 389, 125, 306, 2, 335, 113, 279, 160, 187},
       15761818070507897489ull},
      {"reverse", "reverse", ConfigValue(), 1, {11, 6, 12, 17, 16, 14, 16, 16, 10, 1, 10, 16}, 4488626554902205113ull},
      {"copy", "copy", ConfigValue(), 1, {11, 7, 12, 3, 3, 1, 11, 7, 12, 3, 3, 10}, 16546083860812488027ull},
      {"sort", "sort", ConfigValue(), 1, {13, 8, 13, 9, 9, 9, 15, 14, 6, 11, 5, 2}, 12516417880470786861ull},
      {"translate", "translate", ConfigValue(), 1, {}, 0},
  };
}

void PrintTo(const Case& one, std::ostream* out) { *out << one.label; }

uint64_t checksum(const Batch& batch) {
  uint64_t sum = 0;
  for (const Tensor& tensor : {batch.tokens, batch.labels}) {
    for (const int64_t id : ids(tensor)) {
      sum = sum * 6364136223846793005ull + static_cast<uint64_t>(id) + 1442695040888963407ull;
    }
  }
  return sum;
}

class EveryTask : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    config = GetParam().config;
    if (GetParam().task == "translate") {  // which catalogues a machine has is not ours
      std::filesystem::create_directories(folder);
      ASSERT_TRUE(write_file(folder / "pairs.tsv", translated_lines::lines(4000)).ok());
      config.set("path", ConfigValue((folder / "pairs.tsv").string()));
    }
    task = made(GetParam().task, config);
  }
  void TearDown() override { std::filesystem::remove_all(folder); }
  BatchRequest request(Split split = Split::kTrain, uint64_t seed = 1, int64_t step = 0, int64_t rows = 4) const {
    return {split, seed, step, rows, task->default_length()};
  }
  // Whether the two batches of 2 rows hold the rows of a batch of 4 in order. Training batches of pairs hold rows of
  // similar length instead (pairs.h).
  bool keeps_order(Split split) const { return task->as_pairs() == nullptr || split != Split::kTrain; }

  const std::filesystem::path folder = testing_folder::own_folder();
  ConfigValue config;
  std::unique_ptr<Task> task;
};

// Tokens without padding, row by row.
std::vector<int64_t> tokens_of(const Batch& batch) {
  std::vector<int64_t> tokens;
  const std::vector<int64_t> all = ids(batch.tokens), positions = ids(batch.positions);
  for (size_t i = 0; i < all.size(); ++i) {
    if (positions[i] >= 0) tokens.push_back(all[i]);
  }
  return tokens;
}

// What every batch keeps to, of whichever task: a row's tokens from position 0 on without a gap, padding behind it.
void expect_sound(const Task& task, const Tensor& tokens, const Tensor& positions, bool ragged, const Tensor& labels) {
  ASSERT_EQ(positions.sizes(), tokens.sizes());
  const int64_t length = tokens.size(1);
  const std::vector<int64_t> all = ids(tokens), at = ids(positions);
  bool padded = false;
  for (int64_t i = 0; i < tokens.numel(); ++i) {
    ASSERT_TRUE(all[i] >= 0 && all[i] < task.vocabulary()) << all[i];
    ASSERT_TRUE(at[i] == i % length || (at[i] == -1 && i % length > 0 && task.as_pairs() != nullptr)) << at[i];
    ASSERT_TRUE(i % length == 0 || at[i - 1] >= 0 || at[i] < 0) << "a token behind padding";
    padded |= at[i] < 0;
  }
  EXPECT_EQ(ragged, padded);
  if (!labels.defined()) return;
  ASSERT_EQ(labels.sizes(), tokens.sizes());
  const std::vector<int64_t> asked = ids(labels);
  int64_t scored = 0;
  for (int64_t i = 0; i < labels.numel(); ++i) {
    ASSERT_TRUE(asked[i] == kNoLabel || (at[i] >= 0 && asked[i] >= 0 && asked[i] < task.vocabulary())) << asked[i];
    scored += asked[i] != kNoLabel;
  }
  EXPECT_GE(scored, tokens.size(0));
}

TEST_P(EveryTask, RepeatsItself) {
  const std::unique_ptr<Task> again = made(GetParam().task, config);
  for (const Split split : {Split::kTrain, Split::kValidation, Split::kTest}) {
    const Batch one = batch_of(*task, request(split, 7, 5));
    const Batch two = batch_of(*again, request(split, 7, 5));
    EXPECT_EQ(ids(one.tokens), ids(two.tokens));
    EXPECT_EQ(ids(one.labels), ids(two.labels));
  }
}

TEST_P(EveryTask, TrainsOnWhatSeedAndStepSay) {
  const Batch base = batch_of(*task, request());
  EXPECT_NE(ids(base.tokens), ids(batch_of(*task, request(Split::kTrain, 2)).tokens));
  EXPECT_NE(ids(base.tokens), ids(batch_of(*task, request(Split::kTrain, 1, 1)).tokens));
}

TEST_P(EveryTask, IsTestedOnTheSameRowsWhateverTheSeed) {
  for (const Split split : {Split::kValidation, Split::kTest}) {
    EXPECT_EQ(ids(batch_of(*task, request(split, 1)).tokens), ids(batch_of(*task, request(split, 2)).tokens));
    EXPECT_NE(ids(batch_of(*task, request(split, 1)).tokens), ids(batch_of(*task, request(split, 1, 1)).tokens));
  }
}

TEST_P(EveryTask, HasDisjointSplits) {
  const std::vector<int64_t> train = ids(batch_of(*task, request(Split::kTrain)).tokens);
  const std::vector<int64_t> validation = ids(batch_of(*task, request(Split::kValidation)).tokens);
  const std::vector<int64_t> test = ids(batch_of(*task, request(Split::kTest)).tokens);
  EXPECT_NE(train, validation);
  EXPECT_NE(train, test);
  EXPECT_NE(validation, test);
}

TEST_P(EveryTask, GivesTheSameRowsInBatchesOfAnySize) {
  for (const Split split : {Split::kTrain, Split::kTest}) {
    // Two pools of 2 rows are one of 4.
    const int64_t steps = keeps_order(split) ? 1 : 20;
    std::vector<int64_t> whole, parts;
    for (int64_t step = 0; step < 2 * steps; ++step) {
      const std::vector<int64_t> part = tokens_of(batch_of(*task, request(split, 1, step, 2)));
      parts.insert(parts.end(), part.begin(), part.end());
      if (step >= steps) continue;
      const std::vector<int64_t> batch = tokens_of(batch_of(*task, request(split, 1, step, 4)));
      whole.insert(whole.end(), batch.begin(), batch.end());
    }
    if (!keeps_order(split)) {
      std::sort(whole.begin(), whole.end());
      std::sort(parts.begin(), parts.end());
    }
    EXPECT_EQ(whole, parts);
  }
}

TEST_P(EveryTask, KeepsToItsShapesAndRanges) {
  const std::vector<int64_t> lengths = task->test_lengths();
  EXPECT_TRUE(std::is_sorted(lengths.begin(), lengths.end()));
  EXPECT_EQ(std::count(lengths.begin(), lengths.end(), task->default_length()), 1);
  for (const int64_t length : lengths) {
    for (const Split split : {Split::kTrain, Split::kValidation, Split::kTest}) {
      const Batch batch = batch_of(*task, {split, 3, 2, 3, length});
      EXPECT_FALSE(batch.source.defined());
      expect_sound(*task, batch.tokens, batch.positions, batch.ragged, batch.labels);
      if (task->as_pairs() == nullptr) {
        EXPECT_EQ(batch.tokens.sizes(), (std::vector<int64_t>{3, length}));
        EXPECT_EQ(batch.target_bytes, 0);
        continue;
      }
      EXPECT_EQ(batch.tokens.size(0), 3);
      const Batch apart = batch_of(*task, {split, 3, 2, 3, length, /*apart=*/true});
      expect_sound(*task, apart.tokens, apart.positions, apart.ragged, apart.labels);
      expect_sound(*task, apart.source, apart.source_positions, apart.source_ragged, Tensor());
      EXPECT_LE(apart.source.size(1), length + 1);
      EXPECT_EQ(apart.source.size(0), 3);
      EXPECT_EQ(apart.target_bytes, batch.target_bytes);
    }
  }
}

// Both layouts say the same, and each is what the pairs are.
TEST_P(EveryTask, LaysOutItsPairs) {
  const PairTask* pairs = task->as_pairs();
  if (pairs == nullptr) return;
  for (const Split split : {Split::kTrain, Split::kValidation, Split::kTest}) {
    BatchRequest both = request(split, 5, 3);
    const std::vector<Pair> rows = *pairs->pairs(both);
    ASSERT_EQ(rows.size(), 4u);
    std::vector<int64_t> together, sources, targets;
    for (const Pair& pair : rows) {
      ASSERT_FALSE(pair.source.empty());
      together.insert(together.end(), pair.source.begin(), pair.source.end());
      together.push_back(kBegin);
      together.insert(together.end(), pair.target.begin(), pair.target.end());
      targets.push_back(kBegin);
      targets.insert(targets.end(), pair.target.begin(), pair.target.end());
      EXPECT_EQ(*pairs->encode_source(pairs->source_text(pair.source)), pair.source);
      EXPECT_EQ(pairs->source_symbols(pair.source).size(), pair.source.size());
      EXPECT_EQ(pairs->target_symbols(pair.target).size(), pair.target.size());
    }
    EXPECT_EQ(tokens_of(batch_of(*task, both)), together);
    both.apart = true;
    EXPECT_EQ(tokens_of(batch_of(*task, both)), targets);
  }
}

TEST_P(EveryTask, StatesChanceThatAGuesserReaches) {
  if (task->metric() != Metric::kAccuracy) {
    // Of a task of pairs it is a byte's, over all of the test split at this length.
    double labels = 0.0, bytes = 0.0;
    const int64_t steps =
        task->as_pairs() != nullptr ? task->available_steps(Split::kTest, 4, task->default_length()) : 0;
    for (int64_t step = 0; step < steps; ++step) {
      const Batch batch = batch_of(*task, request(Split::kTest, 1, step));
      labels += static_cast<double>(batch.labels.ge(0).sum().item().toLong());
      bytes += static_cast<double>(batch.target_bytes);
    }
    const double per_token = std::log2(static_cast<double>(task->vocabulary()));
    EXPECT_DOUBLE_EQ(task->chance(task->default_length()).value, steps > 0 ? per_token * labels / bytes : per_token);
    return;
  }
  const std::vector<int64_t> labels = ids(batch_of(*task, {Split::kTest, 0, 0, 20000, task->default_length()}).labels);
  std::set<int64_t> alphabet(labels.begin(), labels.end());
  alphabet.erase(kNoLabel);
  const std::vector<int64_t> answers(alphabet.begin(), alphabet.end());
  RandomStream random(11, "guesser");
  double right = 0.0;
  double count = 0.0;
  for (const int64_t label : labels) {
    if (label != kNoLabel) {
      right += answers[random.below(static_cast<int64_t>(answers.size()))] == label;
      ++count;
    }
  }
  const double chance = task->chance(task->default_length()).value;
  EXPECT_NEAR(chance, 1.0 / static_cast<double>(answers.size()), 1e-12);
  EXPECT_NEAR(right / count, chance, testing_data::tolerance(chance, count));
}

TEST_P(EveryTask, NamesItsLevels) {
  for (const int64_t length : task->test_lengths()) {
    EXPECT_FALSE(task->chance(length).name.empty());
    for (const MetricLevel& level : task->plateaus(length)) {
      EXPECT_FALSE(level.name.empty());
      // A plateau is between guessing and perfection.
      if (higher_is_better(task->metric())) {
        EXPECT_GE(level.value, task->chance(length).value);
        EXPECT_LE(level.value, 1.0);
      } else {
        EXPECT_LE(level.value, task->chance(length).value);
        EXPECT_GE(level.value, 0.0);
      }
    }
  }
  EXPECT_FALSE(task->example().empty());
}

TEST_P(EveryTask, RefusesImpossibleRequests) {
  for (const BatchRequest& wrong : {request(Split::kTrain, 1, -1), request(Split::kTrain, 1, 0, 0),
                                    BatchRequest{Split::kTrain, 1, 0, 1, 0}, BatchRequest{Split::kTest, 1, 0, 1, -4}}) {
    EXPECT_FALSE(task->batch(wrong).ok());
  }
}

// A change of the generator changes these; it then needs a new version, so that recorded results are not mixed.
TEST_P(EveryTask, KeepsItsGeneratorUntilTheVersionChanges) {
  const Case& expected = GetParam();
  EXPECT_EQ(*task->provenance().find("version")->integer(), expected.version);
  for (const TaskEntry& entry : tasks()) {
    if (entry.name == expected.task) {
      EXPECT_EQ(entry.version, expected.version);
    }
  }
  if (expected.checksum != 0) {
    const Batch batch = batch_of(*task, request());
    std::vector<int64_t> first = ids(batch.tokens);
    first.resize(12);
    EXPECT_EQ(first, expected.first_tokens);
    EXPECT_EQ(checksum(batch), expected.checksum);
  }
}

INSTANTIATE_TEST_SUITE_P(Tasks, EveryTask, testing::ValuesIn(cases()),
                         [](const testing::TestParamInfo<Case>& info) { return info.param.label; });

TEST(Tasks, AreEachTested) {
  std::set<std::string> listed;
  std::set<std::string> tested;
  for (const TaskEntry& entry : tasks()) {
    EXPECT_TRUE(listed.insert(entry.name).second) << entry.name << " is listed twice";
    DescribeFields fields;
    entry.describe(fields);
    EXPECT_FALSE(fields.result.empty());
    EXPECT_FALSE(entry.doc.empty());
  }
  for (const Case& one : cases()) {
    tested.insert(one.task);
  }
  EXPECT_EQ(listed, tested);
}

TEST(Tasks, SuggestTheNearestNameAndKey) {
  EXPECT_NE(error_of("inductoin", ConfigValue()).find("induction"), std::string::npos);
  EXPECT_NE(error_of("recall", table("pair", int64_t{4})).find("pairs"), std::string::npos);
}

}  // namespace
}  // namespace hippodrome
