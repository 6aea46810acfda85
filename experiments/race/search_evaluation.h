#pragma once

#include <nlohmann/json.hpp>

#include "core/data/pairs.h"
#include "core/inference/beam_search.h"

namespace hippodrome {

// What a model says by itself (greedy search, no teacher forcing), held against the references at one source length.
struct SearchEvaluation {
  int64_t pairs = 0;
  double exact_match = 0.0, bleu = 0.0, chrf = 0.0;  // 0 … 100; BLEU and chrF as sacreBLEU computes them
};

// Of the first `count` test pairs at this source length, in batches of `rows`. The longest target that is looked for
// has twice the source's symbols and ten.
absl::StatusOr<SearchEvaluation> evaluate_search(LanguageModel& model, const PairTask& task, int64_t length,
                                                 int64_t rows, int64_t count);

// The attention to the source of the first `count` test pairs at this length, for the report: objects with `source` and
// `target` (a label a token) and `weights` (a list of the source's for every target token). Empty where the model
// attends to no source.
absl::StatusOr<nlohmann::json> attention_samples(LanguageModel& model, const PairTask& task, int64_t length,
                                                 int64_t count);

// A hypothesis with its attention, in that form.
nlohmann::json attention_sample(const PairTask& task, const std::vector<int64_t>& source, const Hypothesis& hypothesis);

}  // namespace hippodrome
