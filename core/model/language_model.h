#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/layer/linear.h"
#include "core/model/stack.h"

namespace hippodrome {

// What reads the source of an encoder–decoder, as a model's `encoder` table. Width, vocabulary and what its blocks
// share are the model's where the table does not say otherwise.
struct EncoderConfig : StackConfig {
  bool reverse = false;  // the source is read from its last token to its first (Sutskever et al. 2014, section 3.3)
  bool shared_embedding = false;  // one embedding for source and target
  void bind(Fields& fields);
};

// A language model as recipes write it: embedding, blocks, final norm and head; with an `encoder`, one whose blocks may
// attend to what the encoder makes of a source sequence, or start from the states that it ends in.
struct ModelConfig : StackConfig {
  bool tied = true;  // the head is the embedding's matrix
  std::string head_init =
      "normal";         // normal, uniform: as the embedding; default: U(±1/√E); orthogonal: RWKV's, gain ½√(V/E)
  ConfigValue encoder;  // an EncoderConfig's table; empty: decoder-only
  bool handover = false;  // each block starts from the state in which the encoder's block of its place ends

  void bind(Fields& fields);
};

// The states of all blocks.
struct ModelState {
  std::vector<State> blocks;
  int64_t bytes() const;
  ModelState clone() const;
  ModelState select(const Tensor& rows) const;
};

// A source, read: what decoding starts from.
struct EncodedSource {
  Memory memory;
  std::vector<State> states;  // in which the encoder's blocks ended; only where they are handed over
};

class LanguageModel {
 public:
  // Built on the meta device: no memory until parameters().materialise(). `vocabulary` is the number of tokens to be
  // read, of which the config's own must be no fewer. `path` names the recipe's table in error sentences.
  static absl::StatusOr<std::unique_ptr<LanguageModel>> make(const ModelConfig& config, int64_t vocabulary,
                                                             const std::string& path, const Registry& registry);

  // source [B, S] int64; positions of the context [B, S]: padding stands to the right of a row's tokens.
  EncodedSource encode(const Tensor& source, const Context& context);
  // tokens [B, L] int64 -> the last hidden layer, normed, [B, L, E] in the compute dtype. With an encoder: behind
  // `state`, which initial_state made of the source; where nothing is handed over, `state` may be null and the context
  // holds the memory.
  Tensor hidden(const Tensor& tokens, const Context& context, ModelState* state);
  // The same of each row's last token alone, [B, 1, E], for less: what a prompt is read for. cost() does not know of
  // it.
  Tensor last_hidden(const Tensor& tokens, const Context& context, ModelState* state);
  // hidden [..., E] -> logits [..., V], so that a trainer asks for them only where there are labels.
  Tensor logits(const Tensor& hidden) const;

  // With an encoder, `source` is what it made, of as many rows.
  ModelState initial_state(int64_t rows, int64_t capacity, const EncodedSource* source = nullptr) const;

  // Everything but the head is float32 (or float64) at rest; activations inside layers have this dtype.
  void set_compute_dtype(at::ScalarType dtype) { compute_dtype_ = dtype; }
  at::ScalarType compute_dtype() const { return compute_dtype_; }

  // Where the parameters are, and so where tokens and positions must be.
  at::Device device() const { return decoder_->embedding()->value.device(); }

  const ModelConfig& config() const { return config_; }
  Parameters& parameters() { return parameters_; }
  const Parameters& parameters() const { return parameters_; }
  // Parameters that a token meets: all but the experts it is not sent to. Both embedding tables count, as in published
  // sizes.
  int64_t active_parameters() const;
  // Null in decoder-only models.
  const Stack* encoder() const { return encoder_ ? &*encoder_ : nullptr; }
  const std::vector<std::unique_ptr<Block>>& blocks() const { return decoder_->blocks(); }  // of the decoder
  int64_t vocabulary() const { return vocabulary_; }
  // The whole model's cost, head included for every token. The encoder's counts where decoding begins (no context): it
  // reads `memory_length` tokens.
  Cost cost(const Workload& workload) const;
  // The least optimised kernel class among the layers that mix tokens; position-wise layers are matrix products for
  // all.
  KernelClass kernel_class() const;

 private:
  using StackForward = Tensor (Stack::*)(const Tensor&, const Context&, std::vector<State>*, at::ScalarType);
  Tensor decode(StackForward forward, const Tensor& tokens, const Context& context, ModelState* state);

  ModelConfig config_;
  bool reverse_source_ = false;
  int64_t vocabulary_ = 0;
  at::ScalarType compute_dtype_ = at::kFloat;
  std::optional<Stack> encoder_;
  std::optional<Stack> decoder_;
  std::optional<Linear> head_;
  Parameters parameters_;
};

// The width (a multiple of 16, else of 8, 4, 2, 1) at which the model has `target` parameters to within `tolerance`
// (0.02 = 2 %); FailedPrecondition with the nearest reachable count when none has.
absl::StatusOr<int64_t> match_width(ModelConfig config, int64_t vocabulary, const std::string& path,
                                    const Registry& registry, double target, double tolerance);

}  // namespace hippodrome
