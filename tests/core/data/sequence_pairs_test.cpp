#include "core/data/sequence_pairs.h"

#include <algorithm>
#include <map>

#include "core/data/pairs.h"
#include "tests/core/data/batches.h"

namespace hippodrome::sequence_pairs_test {
namespace {

using testing_data::error_of;
using testing_data::made;
using testing_data::table;
using testing_data::with;
using Ids = std::vector<int64_t>;

std::vector<Pair> pairs_of(const Task& task, const BatchRequest& request) {
  const auto pairs = task.as_pairs()->pairs(request);
  EXPECT_TRUE(pairs.ok()) << pairs.status();
  return *pairs;
}

// The target by the definition.
Ids answer(const std::string& task, Ids source) {
  if (task == "reverse") std::reverse(source.begin(), source.end());
  if (task == "sort") std::sort(source.begin(), source.end());
  return source;
}

class SequencePairs : public testing::TestWithParam<std::string> {};

TEST_P(SequencePairs, TargetsAreWhatTheTaskSays) {
  const auto task = made(GetParam());
  for (const Split split : {Split::kTrain, Split::kValidation, Split::kTest}) {
    std::map<int64_t, int> lengths, symbols;
    for (const Pair& pair : pairs_of(*task, {split, 1, 0, 2000, 20})) {
      EXPECT_EQ(pair.target, answer(GetParam(), pair.source));
      ++lengths[static_cast<int64_t>(pair.source.size())];
      for (const int64_t id : pair.source) ++symbols[id];
    }
    if (split == Split::kTest) {
      EXPECT_EQ(lengths, (std::map<int64_t, int>{{20, 2000}}));
    } else if (split == Split::kValidation) {  // 1 … 20, each about 100 times
      EXPECT_EQ(lengths.size(), 20u);
      for (const auto& [length, count] : lengths) EXPECT_NEAR(count, 100, 40) << length;
      EXPECT_EQ(lengths.begin()->first, 1);
    }
    // All 16 of them, and no other, evenly where there are enough.
    EXPECT_EQ(symbols.size(), 16u);
    EXPECT_EQ(symbols.begin()->first, kFirstSymbol);
    if (split == Split::kTrain) continue;
    const auto [fewest, most] =
        std::minmax_element(symbols.begin(), symbols.end(), [](auto& a, auto& b) { return a.second < b.second; });
    EXPECT_LT(most->second, 1.25 * fewest->second);
  }
}

// Of a guesser that knows the end and, of `sort`, the last symbol.
TEST_P(SequencePairs, PlateausAreWhatShortcutsReach) {
  const auto task = made(GetParam());
  for (const int64_t length : {5, 20, 60}) {
    double end_and_any = 0.0, again = 0.0, labels = 0.0;
    for (const Pair& pair : pairs_of(*task, {Split::kTest, 0, 0, 4000, length})) {
      int64_t last = kFirstSymbol;
      for (const int64_t id : pair.target) {
        end_and_any += id == 9 ? 1.0 : 0.0;
        again += id == last ? 1.0 : 0.0;
        last = id;
      }
      end_and_any += 1.0;
      again += 1.0;
      labels += static_cast<double>(length + 1);
    }
    const std::vector<MetricLevel> levels = task->plateaus(length);
    ASSERT_EQ(levels.size(), GetParam() == "sort" ? 2u : 1u);
    EXPECT_NEAR(levels[0].value, end_and_any / labels, testing_data::tolerance(levels[0].value, labels));
    if (levels.size() > 1) {
      EXPECT_NEAR(levels[1].value, again / labels, testing_data::tolerance(levels[1].value, labels));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tasks, SequencePairs, testing::Values("reverse", "copy", "sort"),
                         [](const auto& info) { return info.param; });

TEST(SequencePairsText, SymbolsAreLetters) {
  const auto task = made("copy", table("symbols", int64_t{1000}));
  const PairTask& pairs = *task->as_pairs();
  EXPECT_EQ(pairs.source_text({2, 3, 27, 28, 29, 2 + 26 + 26 * 26 - 1, 2 + 26 + 26 * 26}), "a b z aa ab zz aaa");
  EXPECT_EQ(pairs.target_text({kBegin, 4, kEnd, 2000, -1}), "c");
  EXPECT_EQ(pairs.source_symbols({4, kEnd}), (std::vector<std::string>{"c", "</s>"}));
  EXPECT_EQ(pairs.target_symbols({kBegin, 4}), (std::vector<std::string>{"<s>", "c"}));
  Ids all(1000);
  for (int64_t i = 0; i < 1000; ++i) all[static_cast<size_t>(i)] = 2 + i;
  EXPECT_EQ(*pairs.encode_source(pairs.source_text(all)), all);
  EXPECT_EQ(*pairs.encode_source("all"), Ids{2 + 999});
  EXPECT_FALSE(pairs.encode_source("alm").ok());
  EXPECT_FALSE(pairs.encode_source(std::string(100, 'z')).ok());
}

TEST(SequencePairsText, ReadsWhatAUserTypes) {
  const auto task = made("reverse");
  const PairTask& pairs = *task->as_pairs();
  EXPECT_EQ(*pairs.encode_source(" d a\tb "), (Ids{5, 2, 3}));
  EXPECT_EQ(*pairs.encode_source("dab"), (Ids{5, 2, 3}));
  EXPECT_EQ(pairs.encode_source("d q").status().message(),
            "there is no symbol \"q\" among the 16 from a to p: give some of these");
  EXPECT_EQ(pairs.encode_source(" ").status().message(), "the line is empty: give symbols such as \"a b c\"");
}

TEST(SequencePairsConfig, LengthsMustFit) {
  const std::string error = error_of("copy", with(table("length", int64_t{5}), "min_length", int64_t{6}));
  EXPECT_NE(error.find("min_length = 6 is above length = 5"), std::string::npos) << error;
  const auto task = made("copy", table("min_length", int64_t{8}));
  EXPECT_FALSE(task->batch({Split::kValidation, 0, 0, 1, 7}).ok());
  EXPECT_EQ(task->test_lengths(), (Ids{5, 10, 15, 20, 30, 40, 50, 60}));
  EXPECT_TRUE(task->batch({Split::kTest, 0, 0, 1, 5}).ok());
}

}  // namespace
}  // namespace hippodrome::sequence_pairs_test
