#include <map>
#include <set>

#include "core/base/random.h"
#include "tests/core/data/batches.h"

namespace hippodrome {
namespace {

using testing_data::error_of;
using testing_data::made;
using testing_data::Row;
using testing_data::rows_of;
using testing_data::table;
using testing_data::with;

TEST(Recall, AsksEachKeyOnceForItsValue) {
  const auto task = made("recall", with(table("pairs", int64_t{16}), "vocabulary", 512));
  for (const int64_t length : {64, 128, 500}) {  // at 64 every even place is taken by a query
    for (const Row& row : rows_of(*task, {Split::kTrain, 1, 0, 30, length})) {
      std::map<int64_t, int64_t> value_of;
      std::set<int64_t> values;
      for (int64_t pair = 0; pair < 16; ++pair) {
        const int64_t key = row.tokens[2 * pair];
        const int64_t value = row.tokens[2 * pair + 1];
        ASSERT_TRUE(key >= 1 && key < 256);
        ASSERT_TRUE(value >= 256 && value < 512);
        ASSERT_TRUE(value_of.emplace(key, value).second);
        ASSERT_TRUE(values.insert(value).second);
        ASSERT_EQ(row.labels[2 * pair], kNoLabel);
        ASSERT_EQ(row.labels[2 * pair + 1], kNoLabel);
      }
      for (int64_t t = 32; t < length; ++t) {
        if (row.labels[t] == kNoLabel) {
          ASSERT_EQ(row.tokens[t], 0);
        } else {
          ASSERT_EQ(t % 2, 0);
          ASSERT_EQ(value_of.at(row.tokens[t]), row.labels[t]);
          value_of.erase(row.tokens[t]);
        }
      }
      ASSERT_TRUE(value_of.empty());
    }
  }
}

TEST(Recall, RandomFillerIsDrawnFromTheWholeVocabulary) {
  const auto task = made("recall", table("filler", std::string("random")));
  std::set<int64_t> seen;
  int64_t zeros = 0;
  for (const Row& row : rows_of(*task, {Split::kTest, 0, 0, 2000, 64})) {
    for (int64_t t = 8; t < 64; ++t) {
      if (row.labels[t] == kNoLabel) {
        seen.insert(row.tokens[t]);
        zeros += row.tokens[t] == 0;
      }
    }
  }
  EXPECT_EQ(seen.size(), 512u);
  EXPECT_NEAR(static_cast<double>(zeros) / (2000 * 52), 1.0 / 512, testing_data::tolerance(1.0 / 512, 2000 * 52));
  EXPECT_EQ(*task->provenance().find("filler")->string(), "random");
  EXPECT_EQ(*made("recall")->provenance().find("filler")->string(), "zero");
}

// With one pair, the place of the only query has the weights (g + 1)^(a − 1), normalised.
TEST(Recall, GapsFollowThePowerLaw) {
  const int64_t length = 42;  // 20 places
  const int64_t rows = 20000;
  std::vector<double> counts(20, 0.0);
  for (const Row& row : rows_of(*made("recall", table("pairs", int64_t{1})), {Split::kTest, 0, 0, rows, length})) {
    for (int64_t place = 0; place < 20; ++place) {
      counts[place] += row.labels[2 + 2 * place] != kNoLabel;
    }
  }
  double total = 0.0;
  for (int64_t place = 0; place < 20; ++place) {
    total += std::pow(place + 1.0, 0.01 - 1.0);
  }
  for (int64_t place = 0; place < 20; ++place) {
    const double expected = std::pow(place + 1.0, 0.01 - 1.0) / total;
    EXPECT_NEAR(counts[place] / rows, expected, testing_data::tolerance(expected, rows)) << place;
  }
}

// With two pairs the second draw is from what the first left over, in proportion.
TEST(Recall, PlacesAreDrawnInTurnWithoutReplacement) {
  const int64_t length = 12;  // 4 places
  const int64_t rows = 20000;
  double weights[4];
  double total = 0.0;
  for (int place = 0; place < 4; ++place) {
    weights[place] = std::pow(place + 1.0, 0.01 - 1.0);
    total += weights[place];
  }
  std::map<std::pair<int, int>, double> counts;  // places of the first and of the second key
  for (const Row& row : rows_of(*made("recall", table("pairs", int64_t{2})), {Split::kTest, 0, 0, rows, length})) {
    int place[2] = {-1, -1};
    for (int g = 0; g < 4; ++g) {
      for (int key = 0; key < 2; ++key) {
        if (row.labels[4 + 2 * g] != kNoLabel && row.tokens[4 + 2 * g] == row.tokens[2 * key]) {
          place[key] = g;
        }
      }
    }
    ++counts[{place[0], place[1]}];
  }
  EXPECT_EQ(counts.size(), 12u);
  for (const auto& [places, count] : counts) {
    const double first = weights[places.first] / total;
    const double expected = first * weights[places.second] / (total - weights[places.first]);
    EXPECT_NEAR(count / rows, expected, testing_data::tolerance(expected, rows));
  }
}

TEST(Recall, PlateauIsNamingSomeValueOfTheRow) {
  const auto task = made("recall");
  RandomStream random(9, "shortcut");
  double right = 0.0;
  for (const Row& row : rows_of(*task, {Split::kTest, 0, 0, 5000, 64})) {
    for (int64_t t = 8; t < 64; ++t) {
      right += row.labels[t] != kNoLabel && row.labels[t] == row.tokens[2 * random.below(4) + 1];
    }
  }
  EXPECT_DOUBLE_EQ(task->plateaus(64).at(0).value, 0.25);
  EXPECT_NEAR(right / 20000.0, 0.25, testing_data::tolerance(0.25, 20000));
}

TEST(Recall, SaysWhatDoesNotFit) {
  EXPECT_NE(error_of("recall", table("length", int64_t{63})).find("even length, not 63"), std::string::npos);
  EXPECT_NE(error_of("recall", table("vocabulary", int64_t{64})).find("vocabulary is 64"), std::string::npos);
  EXPECT_NE(error_of("recall", table("pairs", int64_t{17})).find("pairs is 17 and a length is 64"), std::string::npos);
  const auto task = made("recall");
  EXPECT_FALSE(task->batch({Split::kTest, 0, 0, 1, 65}).ok());
  EXPECT_FALSE(task->batch({Split::kTest, 0, 0, 1, 512}).ok());
}

}  // namespace
}  // namespace hippodrome
