#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/model/language_model.h"

// What a model takes in parameters, arithmetic and memory, before any of it is allocated: models stay on the meta device, and
// what they carry is read off the states and costs of their own layers.
namespace hippodrome {

// All layers of a kind in a model: of a registered name, or "embedding", "norms" and "head".
struct KindSize {
  std::string kind;
  int64_t layers = 0;
  int64_t parameters = 0;
  int64_t active_parameters = 0;  // used for one token: without the experts that a router leaves out
  double flops = 0.0;             // forward, of one token behind the context
};
// In order of appearance. A tied head has no parameters of its own; the embedding is a look-up and has no FLOPs.
std::vector<KindSize> sizes_by_kind(LanguageModel& model, int64_t context);

// FLOPs per token, as Cost counts them.
struct TokenFlops {
  double decode = 0.0;  // forward, of one token behind `context` others
  double train = 0.0;   // forward and backward (twice the forward), mean over a sequence of `length` tokens
  // Forward, two per weight of the matrices a token passes ("2N"), whatever the context. The embedding is free, as in the
  // FLOP column of RWKV's table 2 (Peng et al. 2023): 2(VD + 13D²L) …
  double matrices = 0.0;
  // … or counted like a product with a one-hot vector, as in its text: 2(2VD + 13D²L).
  double matrices_with_embedding = 0.0;
};
TokenFlops flops_per_token(LanguageModel& model, int64_t context, int64_t length);

// What one sequence holds behind `context` tokens, as the layers' initial states declare it: caches in `dtype`, recurrent
// states (convolution windows among them) in float32 or wider.
struct SequenceBytes {
  int64_t cache_per_token = 0;
  int64_t cache = 0;           // of all tokens, as if no layer had a sliding window
  int64_t windowed_cache = 0;  // of the tokens that sliding windows leave; equal to `cache` without windows
  int64_t state = 0;           // constant in the context
  int64_t state_elements = 0;
  // As published tables count: with all k taps in a convolution's window, of which a state needs the k − 1 before the token.
  int64_t published_state_elements = 0;
};
SequenceBytes sequence_bytes(LanguageModel& model, int64_t context, at::ScalarType dtype);

// Bytes of all weights at rest. What must not fall below float32 (norms, decays, step sizes) never does.
//   int8  a byte per weight of a matrix and a bfloat16 scale per row; embeddings and vectors in bfloat16
//   int4  half a byte, and a bfloat16 scale and zero per group of 32: 0.625 bytes per weight; rows padded to whole groups
struct WeightBytes {
  std::string format;  // float32, bfloat16, int8, int4
  int64_t bytes = 0;
};
std::vector<WeightBytes> weight_bytes(LanguageModel& model);

// A training step at its peak, as Trainer runs it: masters, gradients and AdamW's two moments in float32, activations in the
// compute dtype. Gradients are counted in full beside all activations, though the last are made when the first are gone; the
// peaks that `hippodrome scale` measures on small models lie within 15 % (tests/experiments/plan_test.cpp).
struct TrainingBytes {
  int64_t weights = 0;
  int64_t gradients = 0;
  int64_t optimizer = 0;
  int64_t activations = 0;             // kept for backward, and the logits' own gradient
  int64_t activations_recomputed = 0;  // when only the blocks' inputs are kept and one block at a time is run again
  int64_t total() const { return weights + gradients + optimizer + activations; }
  int64_t total_recomputed() const { return weights + gradients + optimizer + activations_recomputed; }
};
TrainingBytes training_bytes(LanguageModel& model, int64_t rows, int64_t length, at::ScalarType dtype);

// The largest n ≥ 1 up to `limit` with bytes(n) ≤ budget, where bytes never falls; 0 when one is too much already.
int64_t largest_that_fits(const std::function<int64_t(int64_t)>& bytes, int64_t budget, int64_t limit);

// A Transformer of a model's size and width: one layer (attention with as many key-value heads as queries, MLP) for every two
// blocks, since two Mamba blocks have the parameters of one such layer (Gu & Dao 2023, section 3.4).
struct TransformerTwin {
  int64_t layers = 0;
  int64_t width = 0;
  int64_t cache_per_token = 0;  // bytes
};
TransformerTwin transformer_twin(const LanguageModel& model, at::ScalarType dtype);

// The context from which `state` and a cache of its own take no more than the twin's cache; 0: never.
int64_t break_even_tokens(int64_t state, int64_t cache_per_token, const TransformerTwin& twin);

}  // namespace hippodrome
