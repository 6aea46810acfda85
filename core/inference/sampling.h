#pragma once

#include "core/base/random.h"
#include "core/base/status.h"
#include "core/tensor/tensor.h"

namespace hippodrome {

// How the next token is drawn from logits. The filters apply in the order temperature, top-k, top-p.
struct SamplingOptions {
  double temperature = 1.0;  // 0: greedy
  int64_t top_k = 0;         // keep the k most likely tokens; 0: all
  double top_p = 1.0;        // keep the smallest set with at least this probability (Holtzman et al. 2020)
};

// One sentence when an option is out of range.
absl::Status check(const SamplingOptions& options);

// logits [V], any floating dtype and device -> a token id. Ties go to the smaller id; one draw of the stream per call.
int64_t sample(const Tensor& logits, const SamplingOptions& options, RandomStream& stream);

}  // namespace hippodrome
