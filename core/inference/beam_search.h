#pragma once

#include <cstdint>
#include <vector>

#include "core/base/status.h"
#include "core/data/pairs.h"
#include "core/model/language_model.h"

namespace hippodrome {

// How the most probable targets of a source are looked for. Finished hypotheses are ranked by
//   score(Y) = log P(Y | X) / ((5 + |Y|) / 6)^α + β Σ_i log min(Σ_j p_ij, 1)
// with p_ij the weight of source token i at target token j (Wu et al. 2016, section 7, equation 14).
struct SearchOptions {
  int64_t beam = 1;               // hypotheses kept a source; 1: greedy
  int64_t n_best = 1;             // hypotheses returned a source, at most `beam`
  int64_t max_length = 128;       // target tokens, the end not counted, after which a hypothesis is cut off
  double length_penalty = 0.0;    // α
  double coverage_penalty = 0.0;  // β, for models that attend to the source
  bool attention = false;         // return the weights
};
// One sentence when an option is out of range.
absl::Status check(const SearchOptions& options);

struct Hypothesis {
  std::vector<int64_t> ids;      // without begin and end
  double log_probability = 0.0;  // natural, of ids and the end
  double score = 0.0;
  bool finished = false;  // false: cut off at max_length
  // With SearchOptions::attention: for each of ids and the end, the weight of every source token (the end of the source
  // included), mean over heads and layers. Empty where the model attends to no source.
  std::vector<std::vector<float>> attention;
};

// Beam search for several sources side by side, generic over the layers' states: hypotheses move by ModelState::select.
// A model with an encoder reads the source and its end; a decoder-only one reads source and begin as its prompt
// (core/data/pairs.h). Sources may
// differ in length. Per source, the n best hypotheses, best first.
absl::StatusOr<std::vector<std::vector<Hypothesis>>> beam_search(LanguageModel& model,
                                                                 const std::vector<std::vector<int64_t>>& sources,
                                                                 const SearchOptions& options);

// The log-probability of each pair's target, its end included, given its source (forced decoding): natural logarithms,
// [B].
std::vector<double> forced_scores(LanguageModel& model, const std::vector<Pair>& pairs);

}  // namespace hippodrome
