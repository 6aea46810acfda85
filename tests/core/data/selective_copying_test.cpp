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

constexpr int64_t kMarker = 15;

TEST(SelectiveCopying, AnswersAreTheDataTokensInOrder) {
  const auto task = made("selective_copying");
  for (const int64_t length : {16, 80, 300}) {
    for (const Row& row : rows_of(*task, {Split::kTrain, 1, 0, 50, length})) {
      std::vector<int64_t> data;
      for (int64_t t = 0; t < length - 8; ++t) {
        ASSERT_NE(row.tokens[t], kMarker);
        ASSERT_EQ(row.labels[t], kNoLabel);
        if (row.tokens[t] != 0) {
          data.push_back(row.tokens[t]);
        }
      }
      ASSERT_EQ(data.size(), 8u);
      for (int64_t i = 0; i < 8; ++i) {
        ASSERT_EQ(row.tokens[length - 8 + i], kMarker);
        ASSERT_EQ(row.labels[length - 8 + i], data[i]);
      }
    }
  }
}

TEST(SelectiveCopying, PlacesAreUniform) {
  const int64_t length = 32;  // 24 places for 8 tokens
  std::vector<double> data(24, 0.0);
  for (const Row& row : rows_of(*made("selective_copying"), {Split::kTest, 0, 0, 6000, length})) {
    for (int64_t t = 0; t < 24; ++t) {
      data[t] += row.tokens[t] != 0;
    }
  }
  for (const double count : data) {
    EXPECT_NEAR(count / 6000.0, 1.0 / 3.0, testing_data::tolerance(1.0 / 3.0, 6000));
  }
}

TEST(SelectiveCopying, PlateauIsNamingSomeTokenOfTheRow) {
  const auto task = made("selective_copying");
  RandomStream random(3, "shortcut");
  double right = 0.0;
  for (const Row& row : rows_of(*task, {Split::kTest, 0, 0, 10000, 80})) {
    for (int64_t i = 0; i < 8; ++i) {
      right += row.labels[72 + i] == row.labels[72 + random.below(8)];
    }
  }
  const double plateau = task->plateaus(80).at(0).value;
  EXPECT_NEAR(right / 80000.0, plateau, testing_data::tolerance(plateau, 80000));
  EXPECT_GT(plateau, task->chance(80).value + 0.1);
}

TEST(SelectiveCopying, SaysWhatDoesNotFit) {
  const auto task = made("selective_copying");
  EXPECT_FALSE(task->batch({Split::kTrain, 0, 0, 1, 15}).ok());
  EXPECT_TRUE(task->batch({Split::kTrain, 0, 0, 1, 16}).ok());
  const std::string message = error_of("selective_copying", with(table("length", int64_t{20}), "tokens", 11));
  EXPECT_NE(message.find("[tasks.selective_copying]"), std::string::npos) << message;
  EXPECT_NE(message.find("at least 22"), std::string::npos) << message;
}

}  // namespace
}  // namespace hippodrome
