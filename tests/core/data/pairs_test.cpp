#include "core/data/pairs.h"

#include <set>

#include "tests/core/data/batches.h"

namespace hippodrome::pairs_test {
namespace {

using testing_data::ids;
using Ids = std::vector<int64_t>;

constexpr int64_t kNo = kNoLabel;

TEST(Pairs, StandTogetherInARow) {
  const Batch batch = batch_of_pairs({{{5, 6, 7}, {8, 9}}, {{5}, {}}}, /*apart=*/false);
  EXPECT_EQ(batch.tokens.sizes(), (Ids{2, 6}));
  EXPECT_EQ(ids(batch.tokens), (Ids{5, 6, 7, kBegin, 8, 9, 5, kBegin, kEnd, kEnd, kEnd, kEnd}));
  EXPECT_EQ(ids(batch.labels), (Ids{kNo, kNo, kNo, 8, 9, kEnd, kNo, kEnd, kNo, kNo, kNo, kNo}));
  EXPECT_EQ(ids(batch.positions), (Ids{0, 1, 2, 3, 4, 5, 0, 1, -1, -1, -1, -1}));
  EXPECT_TRUE(batch.ragged);
  EXPECT_FALSE(batch.source.defined());
  EXPECT_FALSE(batch.source_positions.defined());
  EXPECT_FALSE(batch.source_ragged);
}

TEST(Pairs, StandApartForAnEncoder) {
  const Batch batch = batch_of_pairs({{{5, 6, 7}, {8, 9}}, {{5}, {}}}, /*apart=*/true);
  EXPECT_EQ(batch.source.sizes(), (Ids{2, 4}));
  EXPECT_EQ(ids(batch.source), (Ids{5, 6, 7, kEnd, 5, kEnd, kEnd, kEnd}));
  EXPECT_EQ(ids(batch.source_positions), (Ids{0, 1, 2, 3, 0, 1, -1, -1}));
  EXPECT_TRUE(batch.source_ragged);
  EXPECT_EQ(ids(batch.tokens), (Ids{kBegin, 8, 9, kBegin, kEnd, kEnd}));
  EXPECT_EQ(ids(batch.labels), (Ids{8, 9, kEnd, kEnd, kNo, kNo}));
  EXPECT_EQ(ids(batch.positions), (Ids{0, 1, 2, 0, -1, -1}));
  EXPECT_TRUE(batch.ragged);
}

TEST(Pairs, AreRaggedOnlyWhereThereIsPadding) {
  const std::vector<Pair> rows = {{{5, 6}, {7}}, {{6, 5}, {8}}, {{5}, {7, 8}}};
  const std::vector<Pair> same(rows.begin(), rows.begin() + 2);
  EXPECT_FALSE(batch_of_pairs(same, false).ragged);
  EXPECT_FALSE(batch_of_pairs(same, true).ragged);
  EXPECT_FALSE(batch_of_pairs(same, true).source_ragged);
  // Together as long as the others, apart not.
  EXPECT_FALSE(batch_of_pairs(rows, false).ragged);
  EXPECT_TRUE(batch_of_pairs(rows, true).ragged);
  EXPECT_TRUE(batch_of_pairs(rows, true).source_ragged);
}

TEST(Pairs, BatchesHoldRowsOfSimilarLength) {
  const auto length_of = [](int64_t row) {
    return RandomStream(5, "length").fork(static_cast<uint64_t>(row)).below(100);
  };
  const RandomStream random(7, "order");
  std::multiset<int64_t> seen;
  std::vector<int64_t> firsts;
  int64_t spread = 0;
  for (int64_t step = 20; step < 40; ++step) {
    const BatchRequest request{Split::kTrain, 0, step, 8, 10};
    const std::vector<int64_t> rows = rows_of_similar_length(request, random, length_of);
    EXPECT_EQ(rows, rows_of_similar_length(request, random, length_of));
    EXPECT_EQ(rows.size(), 8u);
    std::set<int64_t> lengths;
    for (const int64_t row : rows) lengths.insert(length_of(row));
    spread += *lengths.rbegin() - *lengths.begin();
    firsts.push_back(*lengths.begin());
    seen.insert(rows.begin(), rows.end());
  }
  // The second pool's 160 rows, each once.
  EXPECT_EQ(seen.size(), 160u);
  EXPECT_EQ(std::set<int64_t>(seen.begin(), seen.end()).size(), 160u);
  EXPECT_EQ(*seen.begin(), 160);
  EXPECT_EQ(*seen.rbegin(), 319);
  // A batch spans a twentieth of the lengths on average, and long batches come among short ones.
  EXPECT_LE(spread / 20, 10);
  EXPECT_FALSE(std::is_sorted(firsts.begin(), firsts.end()));
}

TEST(Pairs, LabelsNameEndAndBegin) {
  EXPECT_EQ(labels_of({7, kBegin, kEnd}, [](int64_t id) { return std::to_string(id); }),
            (std::vector<std::string>{"7", "<s>", "</s>"}));
}

}  // namespace
}  // namespace hippodrome::pairs_test
