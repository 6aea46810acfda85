#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/layer/linear.h"
#include "core/model/block.h"

namespace hippodrome {

// A decoder-only model as recipes write it: embedding, a pattern of blocks repeated, a final norm, a head.
struct ModelConfig {
  std::vector<std::string> pattern;
  int64_t repeats = 2;
  int64_t width = 128;              // D
  int64_t vocabulary = 0;           // V, rows of embedding and head; 0: as many as the task has tokens
  BlockConfig block;                // defaults of every block
  bool final_norm = true;
  double final_norm_epsilon = 0.0;  // 0: the blocks' (RWKV's is 1e-5 whatever theirs)
  bool embedding_norm = false;      // a norm straight after the embedding (RWKV's ln0)
  std::string positions = "none";   // none | learned | sinusoidal, added to the embedding
  int64_t max_positions = 2048;     // rows of the learned table
  bool tied = true;                 // the head is the embedding's matrix
  std::string embedding_init = "normal";  // normal: N(0, 0.02); uniform: U(±1e-4), RWKV's
  double embedding_scale = 1.0;           // the embedding is multiplied by it (Vaswani: √D)
  std::string head_init = "normal";       // normal: N(0, 0.02); default: U(±1/√D); orthogonal: RWKV's, gain ½√(V/D)
  ConfigValue blocks;                     // one table per pattern entry

  void bind(Fields& fields);
};

// The states of all blocks.
struct ModelState {
  std::vector<State> blocks;
  int64_t bytes() const;
  ModelState clone() const;
  ModelState select(const Tensor& rows) const;
};

class LanguageModel {
 public:
  // Built on the meta device: no memory until parameters().materialise(). `vocabulary` is the number of tokens to be read, of
  // which the config's own must be no fewer. `path` names the recipe's table in error sentences.
  static absl::StatusOr<std::unique_ptr<LanguageModel>> make(const ModelConfig& config, int64_t vocabulary,
                                                             const std::string& path, const Registry& registry);

  // tokens [B, L] int64 -> the last hidden layer, normed, [B, L, D] in the compute dtype.
  Tensor hidden(const Tensor& tokens, const Context& context, ModelState* state);
  // hidden [..., D] -> logits [..., V], so that a trainer asks for them only where there are labels.
  Tensor logits(const Tensor& hidden) const;

  ModelState initial_state(int64_t rows, int64_t capacity) const;

  // Everything but the head is float32 (or float64) at rest; activations inside layers have this dtype.
  void set_compute_dtype(at::ScalarType dtype) { compute_dtype_ = dtype; }
  at::ScalarType compute_dtype() const { return compute_dtype_; }

  const ModelConfig& config() const { return config_; }
  Parameters& parameters() { return parameters_; }
  const Parameters& parameters() const { return parameters_; }
  // Parameters that a token meets: all but the experts it is not sent to. Both embedding tables count, as in published sizes.
  int64_t active_parameters() const;
  const std::vector<std::unique_ptr<Block>>& blocks() const { return blocks_; }
  int64_t vocabulary() const { return vocabulary_; }
  // The whole model's cost, head included for every token.
  Cost cost(const Workload& workload) const;
  // The least optimised kernel class among the layers that mix tokens; position-wise layers are matrix products for all.
  KernelClass kernel_class() const;

 private:
  Tensor embed(const Tensor& tokens, const Context& context) const;

  ModelConfig config_;
  int64_t vocabulary_ = 0;
  at::ScalarType compute_dtype_ = at::kFloat;
  ParameterPtr embedding_;           // [V, D]
  ParameterPtr position_embedding_;  // [P, D], learned positions only
  std::optional<Norm> embedding_norm_;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::optional<Norm> final_norm_;
  std::optional<Linear> head_;
  Parameters parameters_;
};

// The width (a multiple of 16, else of 8, 4, 2, 1) at which the model has `target` parameters to within `tolerance`
// (0.02 = 2 %); FailedPrecondition with the nearest reachable count when none has.
absl::StatusOr<int64_t> match_width(ModelConfig config, int64_t vocabulary, const std::string& path,
                                    const Registry& registry, double target, double tolerance);

}  // namespace hippodrome
