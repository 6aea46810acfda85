#include "tests/core/data/batches.h"

namespace hippodrome {
namespace {

using testing_data::made;
using testing_data::Row;
using testing_data::rows_of;
using testing_data::table;

TEST(Parity, CountsTheOnesSoFar) {
  for (const Row& row : rows_of(*made("parity"), {Split::kTrain, 1, 0, 50, 100})) {
    int64_t ones = 0;
    for (size_t t = 0; t < row.tokens.size(); ++t) {
      ones += row.tokens[t];
      ASSERT_EQ(row.labels[t], ones % 2);
    }
  }
}

TEST(Parity, AsksOnceWhenAskedForTheLast) {
  const auto task = made("parity", table("label", std::string("last")));
  for (const Row& row : rows_of(*task, {Split::kTrain, 1, 0, 50, 33})) {
    const int64_t ones = std::count(row.tokens.begin(), row.tokens.end(), 1);
    EXPECT_EQ(row.labels.back(), ones % 2);
    EXPECT_EQ(std::count(row.labels.begin(), row.labels.end(), kNoLabel), 32);
  }
  EXPECT_TRUE(task->plateaus(33).empty());
}

TEST(Parity, BitsAreFairAlongTheWholeRow) {
  const int64_t length = 200;
  std::vector<int64_t> ones(length, 0);
  for (const Row& row : rows_of(*made("parity"), {Split::kTest, 1, 0, 4000, length})) {
    for (int64_t t = 0; t < length; ++t) {
      ones[t] += row.tokens[t];
    }
  }
  for (const int64_t count : ones) {
    EXPECT_NEAR(static_cast<double>(count) / 4000.0, 0.5, 1.3 * testing_data::tolerance(0.5, 4000));
  }
}

TEST(Parity, PlateausAreWhatTheShortcutsReach) {
  const auto task = made("parity");
  const int64_t length = 64;  // trained at 40
  double echo = 0.0;
  double short_sighted = 0.0;
  for (const Row& row : rows_of(*task, {Split::kTest, 1, 0, 4000, length})) {
    int64_t parity = 0;
    for (int64_t t = 0; t < length; ++t) {
      echo += row.tokens[t] == row.labels[t];
      parity ^= t < task->default_length() ? row.tokens[t] : 0;
      short_sighted += parity == row.labels[t];
    }
  }
  const double count = 4000.0 * length;
  const std::vector<MetricLevel> levels = task->plateaus(length);
  ASSERT_EQ(levels.size(), 2u);
  // Answers within a row hang together, so the spread is that of fewer answers.
  EXPECT_NEAR(echo / count, levels[0].value, testing_data::tolerance(0.5, count / 4));
  EXPECT_NEAR(short_sighted / count, levels[1].value, testing_data::tolerance(0.5, count / 8));
  EXPECT_GT(levels[1].value - levels[0].value, 0.2);
  EXPECT_EQ(task->plateaus(40).size(), 1u);
}

}  // namespace
}  // namespace hippodrome
