#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "experiments/plan/figures.h"
#include "experiments/plan/subject.h"

namespace hippodrome {

struct PlanOptions {
  int64_t context = 4096;  // tokens behind which a sequence is decoded
  int64_t batch = 1;       // of a training step …
  int64_t length = 2048;   // … of sequences this long
  std::string dtype = "bfloat16";  // float32 | bfloat16: of activations and caches
  int64_t memory = int64_t{80} << 30;  // bytes to fit into
};

// Weights of a format with the caches and states of sequences beside them.
struct InferenceFit {
  WeightBytes weights;
  bool fits = false;            // one sequence at the context
  int64_t largest_context = 0;  // of one sequence; 0: not even one token
  int64_t largest_batch = 0;    // of sequences at the context
};

struct TrainingFit {
  TrainingBytes bytes;  // at the batch and length asked for
  bool fits = false, fits_recomputed = false;
  // The largest batch at the length, and the largest length of a single row.
  int64_t largest_batch = 0, largest_batch_recomputed = 0;
  int64_t largest_length = 0, largest_length_recomputed = 0;
};

// From how many tokens on a recurrent state is smaller than the cache of a Transformer of the model's size; 0: never.
struct BreakEven {
  TransformerTwin twin;
  int64_t tokens = 0;            // with states as they are held, in float32
  int64_t tokens_in_dtype = 0;   // if they were held in the dtype of the cache
  int64_t tokens_published = 0;  // as published tables count: in that dtype, with all taps of a convolution's window
};

struct Plan {
  std::string name;
  std::vector<std::string> warnings;
  PlanOptions options;
  int64_t width = 0, vocabulary = 0, most_positions = 0;  // 0: any
  int64_t parameters = 0, active_parameters = 0;
  std::vector<KindSize> kinds;
  TokenFlops flops;
  bool tied = false;
  SequenceBytes sequence;
  std::vector<InferenceFit> inference;  // float32, bfloat16, int8, int4
  TrainingFit training;
  BreakEven break_even;
};

// What a search for the largest context, batch or length ends at: "any".
inline constexpr int64_t kAnyNumber = int64_t{1} << 40;

Plan make_plan(const PlanSubject& subject, const PlanOptions& options);

// Aligned text for a terminal.
std::string plan_text(const Plan& plan);
// An object; bytes and counts are integers, and what has no bound is null.
nlohmann::json plan_json(const Plan& plan);

}  // namespace hippodrome
