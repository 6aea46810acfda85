#include "core/inference/beam_search.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/tensor.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "tests/core/model/small_translators.h"

namespace hippodrome::beam_search_test {
namespace {

using small_translators::drawn;
using testing::HasSubstr;
using Ids = std::vector<int64_t>;

const std::vector<Ids> kSources = {{2, 3, 4}, {5}, {6, 2, 2, 5, 3}};

class Searched : public testing::TestWithParam<std::pair<std::string, std::string>> {};

// Every target of up to three symbols, by forced decoding, against a beam that holds them all.
TEST_P(Searched, AWideBeamFindsTheBest) {
  const auto model = drawn(GetParam().second);
  std::vector<Ids> targets = {{}};
  for (size_t begin = 0, length = 0; length < 3; ++length) {
    const size_t end = targets.size();
    for (; begin < end; ++begin) {
      for (int64_t id = 1; id < 7; ++id) {
        Ids longer = targets[begin];
        longer.push_back(id);
        targets.push_back(longer);
      }
    }
  }
  std::vector<Pair> pairs;
  for (const Ids& target : targets) pairs.push_back({kSources[0], target});
  const std::vector<double> scores = forced_scores(*model, pairs);
  const auto best = static_cast<size_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
  // Cut-off ones cannot be told from longer targets, so the search is let go on and must find nothing better of up to
  // three.
  const auto found = beam_search(*model, {kSources[0]}, {.beam = 300, .n_best = 300, .max_length = 4});
  ASSERT_TRUE(found.ok()) << found.status();
  std::map<Ids, double> by_ids;
  for (const Hypothesis& hypothesis : (*found)[0]) {
    if (hypothesis.finished) by_ids[hypothesis.ids] = hypothesis.log_probability;
  }
  ASSERT_TRUE(by_ids.count(targets[best])) << testing::PrintToString(targets[best]);
  EXPECT_NEAR(by_ids[targets[best]], scores[best], 1e-8);
  for (const auto& [ids, score] : by_ids) {
    if (ids.size() > 3) continue;
    EXPECT_LE(score, scores[best] + 1e-8);
  }
}

TEST_P(Searched, SourcesSideBySideAreAsAlone) {
  const auto model = drawn(GetParam().second);
  const SearchOptions options{.beam = 3, .n_best = 3, .max_length = 7, .length_penalty = 0.6};
  const auto together = beam_search(*model, kSources, options);
  ASSERT_TRUE(together.ok());
  for (size_t i = 0; i < kSources.size(); ++i) {
    const auto alone = beam_search(*model, {kSources[i]}, options);
    ASSERT_EQ((*alone)[0].size(), (*together)[i].size());
    for (size_t n = 0; n < (*alone)[0].size(); ++n) {
      EXPECT_EQ((*alone)[0][n].ids, (*together)[i][n].ids) << GetParam().first << " source " << i << " best " << n;
      EXPECT_NEAR((*alone)[0][n].score, (*together)[i][n].score, 1e-8);
    }
  }
}

Tensor row_of(const Ids& ids) { return at::tensor(ids, at::kLong).unsqueeze(0); }

// The logits behind source and prefix, without any search.
Tensor next_logits(LanguageModel& model, const Ids& source, const Ids& prefix) {
  const at::NoGradGuard no_grad;
  Ids read = source, row = {kBegin};
  row.insert(row.end(), prefix.begin(), prefix.end());
  ModelState state;
  if (model.encoder()) {
    read.push_back(kEnd);
    const auto length = static_cast<int64_t>(read.size());
    const EncodedSource encoded = model.encode(row_of(read), Context::plain(1, length, 0, at::kCPU));
    state = model.initial_state(1, 0, &encoded);
  } else {
    row.insert(row.begin(), source.begin(), source.end());
    state = model.initial_state(1, 0);
  }
  const auto length = static_cast<int64_t>(row.size());
  return model.logits(model.hidden(row_of(row), Context::plain(1, length, 0, at::kCPU), &state))[0][length - 1];
}

// What the search says of a hypothesis is what its symbols have one by one, and what forced decoding says where it ends.
TEST_P(Searched, ScoresAreThoseOfItsSymbols) {
  const auto model = drawn(GetParam().second);
  const auto found = beam_search(*model, kSources, {.beam = 4, .n_best = 4, .max_length = 6});
  ASSERT_TRUE(found.ok()) << found.status();
  for (size_t i = 0; i < kSources.size(); ++i) {
    ASSERT_EQ((*found)[i].size(), 4U);
    for (const Hypothesis& hypothesis : (*found)[i]) {
      Ids prefix, rest = hypothesis.ids;
      if (hypothesis.finished) rest.push_back(kEnd);
      double sum = 0.0;
      for (const int64_t id : rest) {
        sum += at::log_softmax(next_logits(*model, kSources[i], prefix), -1)[id].item().toDouble();
        prefix.push_back(id);
      }
      EXPECT_NEAR(hypothesis.log_probability, sum, 1e-8);
      if (!hypothesis.finished) continue;
      EXPECT_NEAR(forced_scores(*model, {{kSources[i], hypothesis.ids}, {kSources[0], {2, 2}}})[0], sum, 1e-8);
    }
  }
}

TEST_P(Searched, ABeamOfOneIsGreedy) {
  const auto model = drawn(GetParam().second);
  for (const Ids& source : kSources) {
    Ids expected;
    int64_t next = -1;
    while (expected.size() < 5) {
      next = next_logits(*model, source, expected).argmax().item().toLong();
      if (next == kEnd) break;
      expected.push_back(next);
    }
    const auto found = beam_search(*model, {source}, {.max_length = 5});
    ASSERT_TRUE(found.ok());
    ASSERT_EQ((*found)[0].size(), 1U);
    EXPECT_EQ((*found)[0][0].ids, expected);
    EXPECT_EQ((*found)[0][0].finished, next == kEnd);
  }
}

INSTANTIATE_TEST_SUITE_P(BeamSearch, Searched, testing::ValuesIn(small_translators::all()), [](const auto& info) {
  std::string name = info.param.first;
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
});

const std::string& attending() { return small_translators::all()[2].second; }

// The score of GNMT, from its parts.
TEST(BeamSearch, RanksByLengthAndCoverage) {
  const auto model = drawn(attending());
  const SearchOptions options{
      .beam = 5, .n_best = 5, .max_length = 6, .length_penalty = 0.7, .coverage_penalty = 0.3, .attention = true};
  const auto found = beam_search(*model, kSources, options);
  ASSERT_TRUE(found.ok()) << found.status();
  for (size_t i = 0; i < kSources.size(); ++i) {
    double before = INFINITY;
    for (const Hypothesis& hypothesis : (*found)[i]) {
      const size_t length = hypothesis.ids.size() + (hypothesis.finished ? 1 : 0);
      ASSERT_EQ(hypothesis.attention.size(), length);
      double coverage = 0.0;
      for (size_t s = 0; s < kSources[i].size() + 1; ++s) {
        double covered = 0.0;
        for (const auto& weights : hypothesis.attention) {
          ASSERT_EQ(weights.size(), kSources[i].size() + 1) << "the source's tokens and its end";
          covered += weights[s];
        }
        coverage += std::log(std::min(covered, 1.0));
      }
      const double penalty = std::pow((5.0 + static_cast<double>(length)) / 6.0, 0.7);
      EXPECT_NEAR(hypothesis.score, hypothesis.log_probability / penalty + 0.3 * coverage, 1e-6);
      EXPECT_LE(hypothesis.score, before);
      before = hypothesis.score;
      for (const auto& weights : hypothesis.attention) {
        double sum = 0.0;
        for (const float weight : weights) sum += weight;
        EXPECT_NEAR(sum, 1.0, 1e-5);
      }
    }
  }
}

TEST(BeamSearch, RefusesWhatItCannotDo) {
  const auto model = drawn(attending()), blind = drawn(small_translators::all()[0].second);
  const auto error = [&](LanguageModel& of, const SearchOptions& options) {
    return std::string(beam_search(of, kSources, options).status().message());
  };
  EXPECT_THAT(error(*model, {.beam = 0}), HasSubstr("at least one hypothesis"));
  EXPECT_THAT(error(*model, {.beam = 2, .n_best = 3}), HasSubstr("n-best is 3, which must be from 1 to the beam's 2"));
  EXPECT_THAT(error(*model, {.max_length = 0}), HasSubstr("at least one token"));
  EXPECT_THAT(error(*model, {.length_penalty = -1.0}), HasSubstr("must not be negative"));
  EXPECT_THAT(error(*blind, {.coverage_penalty = 0.1}), HasSubstr("needs a model that attends"));
  EXPECT_TRUE(beam_search(*model, {}, {})->empty());
}

}  // namespace
}  // namespace hippodrome::beam_search_test
