#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/model/block.h"

namespace hippodrome {

// What reads tokens, as recipes write it: an embedding, a pattern of blocks repeated, a final norm.
struct StackConfig {
  std::vector<std::string> pattern;
  int64_t repeats = 2;
  int64_t width = 128;     // D
  int64_t vocabulary = 0;  // V, rows of the embedding (and of a decoder's head); 0: as many as the task has tokens
  BlockConfig block;       // defaults of every block
  bool final_norm = true;
  double final_norm_epsilon = 0.0;        // 0: the blocks' (RWKV's is 1e-5 whatever theirs)
  bool embedding_norm = false;            // a norm straight after the embedding (RWKV's ln0)
  std::string positions = "none";         // none | learned | sinusoidal, added to the embedding
  int64_t max_positions = 2048;           // rows of the learned table
  std::string embedding_init = "normal";  // normal: N(0, init_deviation); uniform: U(±init_range)
  double init_deviation = 0.02;
  double init_range = 1e-4;      // RWKV's
  double embedding_scale = 1.0;  // the embedding is multiplied by it (Vaswani: √D)
  ConfigValue blocks;            // one table per pattern entry

  void bind(Fields& fields);
};

Initialiser embedding_initialiser(const StackConfig& config);

// Embedding, blocks and final norm: a decoder but for its head, or an encoder.
class Stack {
 public:
  // Built on the meta device. `shared_embedding` [V, D] is used where it is not null, in place of one of the stack's
  // own. `site` is put before the blocks' names: "", or "encoder.". `memory_width` is that of the encoder before it, 0
  // where there is none. `path` names the recipe's table in error sentences.
  static absl::StatusOr<Stack> make(const StackConfig& config, int64_t vocabulary, ParameterPtr shared_embedding,
                                    const std::string& site, int64_t memory_width, const std::string& path,
                                    const Registry& registry);

  // tokens [B, L] int64 -> the last block's output, normed, [B, L, E] in the compute dtype. `states`: one a block, or
  // null.
  Tensor forward(const Tensor& tokens, const Context& context, std::vector<State>* states,
                 at::ScalarType compute_dtype);
  // The same for each row's last token alone, [B, 1, E]: blocks behind the last that mixes tokens compute no other.
  Tensor forward_to_last(const Tensor& tokens, const Context& context, std::vector<State>* states,
                         at::ScalarType compute_dtype);

  // From now on a row's first token continues the states that are given, which layers would otherwise start anew at
  // position 0.
  void continue_states() { continues_states_ = true; }

  int64_t output_width() const { return output_width_; }  // E
  const ParameterPtr& embedding() const { return embedding_; }
  std::vector<State> initial_states(const StateSpec& spec) const;
  Cost cost(const Workload& workload) const;
  int64_t inactive_parameters() const;
  const std::vector<std::unique_ptr<Block>>& blocks() const { return blocks_; }
  Parameters& parameters() { return parameters_; }

 private:
  Tensor embed(const Tensor& tokens, const Context& context) const;
  // As blocks see it.
  Context context_of_blocks(const Context& context) const;
  // Blocks [begin, end) of x.
  Tensor through(size_t begin, size_t end, Tensor x, const Context& context, std::vector<State>* states,
                 at::ScalarType compute_dtype);
  Tensor ended(const Tensor& x, at::ScalarType compute_dtype) const;  // the final norm, and the dtype of the head

  StackConfig config_;
  std::string name_;
  int64_t output_width_ = 0;
  bool continues_states_ = false;
  ParameterPtr embedding_;           // [V, D]
  ParameterPtr position_embedding_;  // [P, D], learned positions only
  std::optional<Norm> embedding_norm_;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::optional<Norm> final_norm_;
  Parameters parameters_;
};

}  // namespace hippodrome
