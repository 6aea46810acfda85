#include "core/base/random.h"
#include "tests/core/data/batches.h"

namespace hippodrome {
namespace {

using testing_data::made;
using testing_data::Row;
using testing_data::rows_of;

constexpr int64_t kSpecial = 15;

TEST(Induction, AsksWhatFollowedTheSpecialToken) {
  const auto task = made("induction");
  for (const int64_t length : {3, 4, 64, 1024}) {
    for (const Row& row : rows_of(*task, {Split::kTrain, 1, 0, 200, length})) {
      EXPECT_EQ(std::count(row.tokens.begin(), row.tokens.end(), kSpecial), 2);
      EXPECT_EQ(row.tokens.back(), kSpecial);
      const auto first = std::find(row.tokens.begin(), row.tokens.end(), kSpecial);
      EXPECT_EQ(row.labels.back(), first[1]);
      EXPECT_NE(first[1], kSpecial);
      EXPECT_EQ(std::count(row.labels.begin(), row.labels.end(), kNoLabel), length - 1);
    }
  }
}

TEST(Induction, ThePlaceIsUniform) {
  std::vector<double> places(14, 0.0);
  for (const Row& row : rows_of(*made("induction"), {Split::kTest, 0, 0, 14000, 16})) {
    ++places.at(std::find(row.tokens.begin(), row.tokens.end(), kSpecial) - row.tokens.begin());
  }
  for (const double count : places) {
    EXPECT_NEAR(count / 14000.0, 1.0 / 14.0, testing_data::tolerance(1.0 / 14.0, 14000));
  }
}

// A model that sees the last 64 tokens and guesses when the special token is not among them.
TEST(Induction, PlateauIsSeeingAsFarAsTrained) {
  const auto task = made("induction");
  EXPECT_TRUE(task->plateaus(64).empty());
  for (const int64_t length : {128, 256}) {
    RandomStream random(5, "shortcut");
    double right = 0.0;
    for (const Row& row : rows_of(*task, {Split::kTest, 0, 0, 10000, length})) {
      const auto first = std::find(row.tokens.end() - 64, row.tokens.end() - 1, kSpecial);
      const bool seen = first != row.tokens.end() - 1;
      right += (seen ? first[1] : random.below(15)) == row.labels.back();
    }
    const double plateau = task->plateaus(length).at(0).value;
    EXPECT_NEAR(right / 10000.0, plateau, testing_data::tolerance(plateau, 10000)) << length;
  }
}

TEST(Induction, IsTestedToSixteenTimesTheTrainedLength) {
  EXPECT_EQ(made("induction", testing_data::table("length", int64_t{32}))->test_lengths(),
            (std::vector<int64_t>{32, 64, 128, 256, 512}));
  EXPECT_FALSE(made("induction")->batch({Split::kTrain, 0, 0, 1, 2}).ok());
}

}  // namespace
}  // namespace hippodrome
