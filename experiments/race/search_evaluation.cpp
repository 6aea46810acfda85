#include "experiments/race/search_evaluation.h"

#include <algorithm>
#include <cmath>

#include "core/metrics/bleu.h"
#include "core/metrics/chrf.h"
#include "core/metrics/exact_match.h"

namespace hippodrome {
namespace search_evaluation_detail {
namespace {

using nlohmann::json;

int64_t longest_target(int64_t source_length) { return 2 * source_length + 10; }

std::vector<std::vector<int64_t>> sources_of(const std::vector<Pair>& pairs) {
  std::vector<std::vector<int64_t>> sources;
  for (const Pair& pair : pairs) sources.push_back(pair.source);
  return sources;
}

}  // namespace
}  // namespace search_evaluation_detail

absl::StatusOr<SearchEvaluation> evaluate_search(LanguageModel& model, const PairTask& task, int64_t length,
                                                 int64_t rows, int64_t count) {
  using namespace search_evaluation_detail;
  const SearchOptions options{.max_length = longest_target(length)};
  const int64_t available = task.available_steps(Split::kTest, rows, length);
  BleuCounts bleu;
  ChrfCounts chrf;
  ExactMatchCounts exact;
  SearchEvaluation result;
  for (int64_t step = 0; result.pairs < count && (available == 0 || step < available); ++step) {
    ASSIGN_OR_RETURN(std::vector<Pair> pairs, task.pairs({Split::kTest, /*seed=*/0, step, rows, length}));
    pairs.resize(std::min(pairs.size(), static_cast<size_t>(count - result.pairs)));
    ASSIGN_OR_RETURN(const auto said, beam_search(model, sources_of(pairs), options));
    for (size_t i = 0; i < pairs.size(); ++i) {
      const std::string hypothesis = task.target_text(said[i][0].ids), reference = task.target_text(pairs[i].target);
      bleu.add(hypothesis, reference);
      chrf.add(hypothesis, reference);
      exact.add(hypothesis, reference);
    }
    result.pairs += static_cast<int64_t>(pairs.size());
  }
  result.exact_match = exact.score();
  result.bleu = bleu.score();
  result.chrf = chrf.chrf();
  return result;
}

nlohmann::json attention_sample(const PairTask& task, const std::vector<int64_t>& source,
                                const Hypothesis& hypothesis) {
  using nlohmann::json;
  const auto ended = [](std::vector<int64_t> ids) {
    ids.push_back(kEnd);
    return ids;
  };
  json weights = json::array();
  for (const auto& row : hypothesis.attention) {
    json values = json::array();
    for (const float weight : row) values.push_back(std::round(1000.0 * weight) / 1000.0);
    weights.push_back(std::move(values));
  }
  return {{"source", task.source_symbols(ended(source))},
          {"target", task.target_symbols(hypothesis.finished ? ended(hypothesis.ids) : hypothesis.ids)},
          {"weights", weights}};
}

absl::StatusOr<nlohmann::json> attention_samples(LanguageModel& model, const PairTask& task, int64_t length,
                                                 int64_t count) {
  using namespace search_evaluation_detail;
  ASSIGN_OR_RETURN(const std::vector<Pair> pairs, task.pairs({Split::kTest, /*seed=*/0, /*step=*/0, count, length}));
  const SearchOptions options{.max_length = longest_target(length), .attention = true};
  ASSIGN_OR_RETURN(const auto said, beam_search(model, sources_of(pairs), options));
  json samples = json::array();
  for (size_t i = 0; i < pairs.size(); ++i) {
    if (!said[i][0].attention.empty()) samples.push_back(attention_sample(task, pairs[i].source, said[i][0]));
  }
  return samples;
}

}  // namespace hippodrome
