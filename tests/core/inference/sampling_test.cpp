#include "core/inference/sampling.h"

#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

namespace hippodrome {
namespace {

Tensor logits_of(const std::vector<double>& probabilities) {
  std::vector<double> logits;
  for (const double p : probabilities) logits.push_back(std::log(p));
  return at::tensor(logits, at::kDouble);
}

// Shares of 20,000 draws by token.
std::map<int64_t, double> shares(const Tensor& logits, const SamplingOptions& options) {
  constexpr int kDraws = 20000;
  RandomStream stream(3, "draws");
  std::map<int64_t, double> result;
  for (int i = 0; i < kDraws; ++i) result[sample(logits, options, stream)] += 1.0 / kDraws;
  return result;
}

void expect_shares(const std::map<int64_t, double>& actual, const std::map<int64_t, double>& expected) {
  for (const auto& [token, share] : actual) EXPECT_TRUE(expected.count(token)) << "token " << token << " was drawn";
  for (const auto& [token, share] : expected) EXPECT_NEAR(actual.count(token) ? actual.at(token) : 0.0, share, 0.015) << token;
}

const std::vector<double> kFour = {0.1, 0.4, 0.2, 0.3};

TEST(Sampling, FollowsTheProbabilities) {
  expect_shares(shares(logits_of(kFour), {}), {{0, 0.1}, {1, 0.4}, {2, 0.2}, {3, 0.3}});
  // A constant added to all logits, even a huge one, changes nothing.
  expect_shares(shares(logits_of(kFour).add(5000.0), {}), {{0, 0.1}, {1, 0.4}, {2, 0.2}, {3, 0.3}});
}

TEST(Sampling, TemperatureSharpensAndFlattens) {
  // p^2: 1, 16, 4, 9 of 30.
  expect_shares(shares(logits_of(kFour), {.temperature = 0.5}), {{0, 1 / 30.0}, {1, 16 / 30.0}, {2, 4 / 30.0}, {3, 9 / 30.0}});
  expect_shares(shares(logits_of(kFour), {.temperature = 1e6}), {{0, 0.25}, {1, 0.25}, {2, 0.25}, {3, 0.25}});
}

TEST(Sampling, ZeroTemperatureIsGreedyAndTiesGoToTheSmallerId) {
  RandomStream stream(1, "draws");
  EXPECT_EQ(sample(logits_of(kFour), {.temperature = 0.0}, stream), 1);
  EXPECT_EQ(sample(logits_of({0.2, 0.4, 0.4}), {.temperature = 0.0}, stream), 1);
}

TEST(Sampling, TopKKeepsTheLikeliest) {
  expect_shares(shares(logits_of(kFour), {.top_k = 2}), {{1, 4 / 7.0}, {3, 3 / 7.0}});
  expect_shares(shares(logits_of(kFour), {.top_k = 1}), {{1, 1.0}});
  expect_shares(shares(logits_of(kFour), {.top_k = 99}), {{0, 0.1}, {1, 0.4}, {2, 0.2}, {3, 0.3}});
  expect_shares(shares(logits_of({0.3, 0.3, 0.3, 0.1}), {.top_k = 2}), {{0, 0.5}, {1, 0.5}});
}

TEST(Sampling, TopPKeepsTheSmallestSetThatReachesIt) {
  expect_shares(shares(logits_of(kFour), {.top_p = 0.69}), {{1, 4 / 7.0}, {3, 3 / 7.0}});
  expect_shares(shares(logits_of(kFour), {.top_p = 0.71}), {{1, 4 / 9.0}, {3, 3 / 9.0}, {2, 2 / 9.0}});
  expect_shares(shares(logits_of(kFour), {.top_p = 1e-9}), {{1, 1.0}});
  // Of what top-k left: 4/7 and 3/7.
  expect_shares(shares(logits_of(kFour), {.top_k = 2, .top_p = 0.5}), {{1, 1.0}});
}

TEST(Sampling, DrawsOncePerCallWhateverTheOptions) {
  for (const SamplingOptions& options : {SamplingOptions{}, SamplingOptions{.temperature = 0.0}, SamplingOptions{.top_k = 1}}) {
    RandomStream drawn(1, "draws"), counted(1, "draws");
    sample(logits_of(kFour), options, drawn);
    counted.uniform();
    EXPECT_EQ(drawn.bits(), counted.bits());
  }
}

TEST(Sampling, ChecksItsOptions) {
  EXPECT_TRUE(check(SamplingOptions{}).ok());
  EXPECT_EQ(check({.temperature = -1.0}).message(), "the temperature must not be negative");
  EXPECT_FALSE(check({.temperature = std::nan("")}).ok());
  EXPECT_EQ(check({.top_k = -1}).message(), "top-k must not be negative; 0 keeps every token");
  EXPECT_EQ(check({.top_p = 0.0}).message(), "top-p must be above 0 and at most 1");
  EXPECT_FALSE(check({.top_p = 1.5}).ok());
}

}  // namespace
}  // namespace hippodrome
