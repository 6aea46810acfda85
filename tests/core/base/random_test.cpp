#include "core/base/random.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <vector>

namespace hippodrome::random_test {
namespace {

// The known answer of Philox4x32-10 for counter 0 and key 0: 6627e8d5 e169c58d bc57ac4c 9b00dbd8. bits_at gives its first two
// words; a fork by index n takes the last two at counter ~n.
TEST(Random, KnownAnswerOfPhilox) {
  const RandomStream zero = RandomStream::from_key(0);
  EXPECT_EQ(zero.bits_at(0), 0xe169c58d6627e8d5ull);
  EXPECT_EQ(zero.fork(~uint64_t{0}).key(), 0x9b00dbd8bc57ac4cull);
}

// Fixed for ever: data, initial values and dropout of every recorded run hang on them.
TEST(Random, GoldenValues) {
  const RandomStream stream(42, "golden");
  EXPECT_EQ(stream.key(), 0x68759e34edff38d1ull);
  EXPECT_EQ(stream.bits_at(0), 0x3dc2b65849110876ull);
  EXPECT_EQ(stream.bits_at(uint64_t{1} << 40), 0x3b71bef8c5a4db26ull);
  EXPECT_EQ(stream.fork("child").key(), 0x2ba76cca6846d7d6ull);
  EXPECT_EQ(stream.fork(7).key(), 0x65321e758e17f1d3ull);
  EXPECT_EQ(stream.uniform_at(3), 0x1.977f0899f01a0p-1);
  EXPECT_NEAR(stream.normal_at(3), -1.2250132249318788, 1e-14);  // the C library's log and cos may differ in the last bit
}

TEST(Random, SequenceEqualsRandomAccess) {
  RandomStream stream(1, "sequence");
  const RandomStream reference = stream;
  EXPECT_EQ(stream.bits(), reference.bits_at(0));
  EXPECT_EQ(stream.uniform(), reference.uniform_at(1));
  EXPECT_EQ(stream.normal(), reference.normal_at(2));
  EXPECT_EQ(stream.key(), reference.key());
}

TEST(Random, UniformFillsTheUnitIntervalEvenly) {
  RandomStream stream(2, "uniform");
  constexpr int kDraws = 160000, kBins = 16;
  std::array<int, kBins> counts{};
  double sum = 0.0;
  for (int i = 0; i < kDraws; ++i) {
    const double value = stream.uniform();
    ASSERT_GE(value, 0.0);
    ASSERT_LT(value, 1.0);
    ++counts[static_cast<size_t>(value * kBins)];
    sum += value;
  }
  double chi_squared = 0.0;
  for (const int count : counts) {
    const double excess = count - kDraws / kBins;
    chi_squared += excess * excess / (kDraws / kBins);
  }
  EXPECT_LT(chi_squared, 44.3);  // 15 degrees of freedom, one in 10,000
  EXPECT_NEAR(sum / kDraws, 0.5, 4.0 / std::sqrt(12.0 * kDraws));
}

TEST(Random, EveryBitIsSetHalfOfTheTime) {
  RandomStream stream(3, "bits");
  constexpr int kDraws = 40000;
  std::array<int, 64> counts{};
  for (int i = 0; i < kDraws; ++i) {
    const uint64_t bits = stream.bits();
    for (int bit = 0; bit < 64; ++bit) {
      counts[bit] += bits >> bit & 1;
    }
  }
  for (const int count : counts) {
    EXPECT_NEAR(count, kDraws / 2, 5 * std::sqrt(kDraws / 4.0));
  }
}

TEST(Random, NamesSeedsAndForksGiveUncorrelatedStreams) {
  const RandomStream root(5, "a");
  const std::vector<RandomStream> streams = {root,           RandomStream(5, "b"), RandomStream(6, "a"), root.fork("a"),
                                             root.fork("b"), root.fork(0),         root.fork(1),         RandomStream(5, "")};
  constexpr int kDraws = 20000;
  std::set<uint64_t> keys;
  for (size_t i = 0; i < streams.size(); ++i) {
    EXPECT_TRUE(keys.insert(streams[i].key()).second);
    for (size_t j = 0; j < i; ++j) {
      double product = 0.0;
      for (int n = 0; n < kDraws; ++n) {
        product += (streams[i].uniform_at(n) - 0.5) * (streams[j].uniform_at(n) - 0.5);
      }
      EXPECT_NEAR(12.0 * product / kDraws, 0.0, 5.0 / std::sqrt(kDraws)) << i << " and " << j;
    }
  }
}

TEST(Random, BelowIsInRangeAndEven) {
  RandomStream stream(7, "below");
  constexpr int kDraws = 70000;
  std::array<int, 7> counts{};
  for (int i = 0; i < kDraws; ++i) {
    const int64_t value = stream.below(7);
    ASSERT_GE(value, 0);
    ASSERT_LT(value, 7);
    ++counts[static_cast<size_t>(value)];
  }
  for (const int count : counts) {
    EXPECT_NEAR(count, kDraws / 7, 5 * std::sqrt(kDraws / 7.0));
  }
  EXPECT_EQ(stream.below(1), 0);
}

// Three quarters of 2^63: a plain remainder of 64 bits would give the lower two thirds three draws for every two.
TEST(Random, BelowHasNoBiasForHugeBounds) {
  RandomStream stream(8, "huge");
  constexpr int64_t kBound = (int64_t{1} << 62) + (int64_t{1} << 61);
  constexpr int kDraws = 30000;
  int low = 0;
  for (int i = 0; i < kDraws; ++i) {
    const int64_t value = stream.below(kBound);
    ASSERT_GE(value, 0);
    ASSERT_LT(value, kBound);
    low += value < kBound / 3;
  }
  EXPECT_NEAR(low, kDraws / 3.0, 5 * std::sqrt(kDraws * 2.0 / 9.0));
  EXPECT_GE(stream.below(std::numeric_limits<int64_t>::max()), 0);
}

TEST(Random, NormalHasTheMomentsOfAStandardNormal) {
  RandomStream stream(9, "normal");
  constexpr int kDraws = 200000;
  double sum1 = 0.0, sum2 = 0.0, sum3 = 0.0, sum4 = 0.0;
  int beyond_two = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double value = stream.normal();
    ASSERT_TRUE(std::isfinite(value));
    sum1 += value;
    sum2 += value * value;
    sum3 += value * value * value;
    sum4 += value * value * value * value;
    beyond_two += std::abs(value) > 2.0;
  }
  // Five standard errors; the variances of the moments are 1, 2, 15 and 96.
  EXPECT_NEAR(sum1 / kDraws, 0.0, 5 * std::sqrt(1.0 / kDraws));
  EXPECT_NEAR(sum2 / kDraws, 1.0, 5 * std::sqrt(2.0 / kDraws));
  EXPECT_NEAR(sum3 / kDraws, 0.0, 5 * std::sqrt(15.0 / kDraws));
  EXPECT_NEAR(sum4 / kDraws, 3.0, 5 * std::sqrt(96.0 / kDraws));
  EXPECT_NEAR(beyond_two / double{kDraws}, 0.0455003, 0.003);
}

}  // namespace
}  // namespace hippodrome::random_test
