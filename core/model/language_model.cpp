#include "core/model/language_model.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <cmath>

namespace hippodrome {
namespace {

Initialiser head_initialiser(const ModelConfig& config, int64_t vocabulary, int64_t width) {
  if (config.head_init == "orthogonal") {
    const double ratio = static_cast<double>(vocabulary) / static_cast<double>(width);
    return initialise::orthogonal(0.5 * (ratio > 1.0 ? std::sqrt(ratio) : 1.0));
  }
  if (config.head_init == "uniform") return initialise::uniform(-config.init_range, config.init_range);
  return config.head_init == "default" ? initialise::uniform_fan_in(width) : initialise::normal(config.init_deviation);
}

// The rows of an embedding: the config's own, which must hold all tokens to be read.
absl::StatusOr<int64_t> vocabulary_of(const StackConfig& config, int64_t tokens, const std::string& path) {
  if (config.vocabulary == 0) return tokens;
  if (config.vocabulary < tokens) {
    return absl::InvalidArgumentError("[" + path + "] vocabulary = " + std::to_string(config.vocabulary) +
                                      " is less than the " + std::to_string(tokens) + " tokens to be read");
  }
  return config.vocabulary;
}

absl::StatusOr<EncoderConfig> encoder_config(const ModelConfig& model, const std::string& path) {
  EncoderConfig config;
  config.width = model.width;
  config.vocabulary = model.vocabulary;
  config.block = model.block;
  config.final_norm = model.final_norm;
  config.positions = model.positions;
  config.max_positions = model.max_positions;
  config.embedding_init = model.embedding_init;
  config.init_deviation = model.init_deviation;
  config.init_range = model.init_range;
  config.embedding_scale = model.embedding_scale;
  ReadFields fields(model.encoder, path);
  config.bind(fields);
  RETURN_IF_ERROR(fields.finish());
  return config;
}

// Each row's tokens in the opposite order, in front of its padding.
Tensor reversed_tokens(const Tensor& tokens, const Context& context) {
  if (!context.ragged) return tokens.flip(1);
  const Tensor place = at::arange(tokens.size(1), tokens.options()).unsqueeze(0);
  const Tensor last = context.positions.ge(0).sum(1, /*keepdim=*/true).sub(1);
  return tokens.gather(1, at::where(place.le(last), last.sub(place), place));
}

absl::Status check_handover(const Stack& encoder, const Stack& decoder, const std::string& path) {
  const auto names = [](const Stack& stack) {
    std::string result;
    for (const auto& block : stack.blocks()) result += (result.empty() ? "" : ", ") + block->layer_name();
    return result;
  };
  bool fits = encoder.blocks().size() == decoder.blocks().size();
  for (size_t i = 0; fits && i < encoder.blocks().size(); ++i) {
    fits = encoder.blocks()[i]->causal() && encoder.blocks()[i]->layer_name() == decoder.blocks()[i]->layer_name() &&
           encoder.blocks()[i]->output_width() == decoder.blocks()[i]->output_width();
  }
  if (fits) return absl::OkStatus();
  return absl::InvalidArgumentError("[" + path +
                                    "] handover = true needs an encoder of the decoder's blocks, of the same widths "
                                    "and reading forward: the encoder has " +
                                    names(encoder) + ", the decoder " + names(decoder));
}

}  // namespace

void EncoderConfig::bind(Fields& fields) {
  StackConfig::bind(fields);
  fields.flag("reverse", reverse, "read the source from its last token to its first");
  fields.flag("shared_embedding", shared_embedding, "one embedding for source and target");
}

void ModelConfig::bind(Fields& fields) {
  StackConfig::bind(fields);
  fields.flag("tied", tied, "the head shares the embedding's matrix");
  fields.choice("head_init", head_init, {"normal", "uniform", "default", "orthogonal"},
                "of an untied head: N(0, init_deviation), U(±init_range), U(±1/√E), or orthogonal as RWKV");
  fields.tree("encoder", encoder, "what reads the source of pairs: the keys of a model, `reverse`, `shared_embedding`");
  fields.flag("handover", handover, "blocks start from the states that the encoder's blocks end in");
}

int64_t ModelState::bytes() const {
  int64_t total = 0;
  for (const State& state : blocks) total += state.bytes();
  return total;
}

ModelState ModelState::clone() const {
  ModelState copy;
  for (const State& state : blocks) copy.blocks.push_back(state.clone());
  return copy;
}

ModelState ModelState::select(const Tensor& rows) const {
  ModelState copy;
  for (const State& state : blocks) copy.blocks.push_back(state.select(rows));
  return copy;
}

absl::StatusOr<std::unique_ptr<LanguageModel>> LanguageModel::make(const ModelConfig& config, int64_t vocabulary,
                                                                   const std::string& path, const Registry& registry) {
  auto model = std::make_unique<LanguageModel>();
  model->config_ = config;
  ASSIGN_OR_RETURN(model->vocabulary_, vocabulary_of(config, vocabulary, path));
  const bool has_encoder = !config.encoder.table()->empty();
  const std::string encoder_path = path + ".encoder";
  EncoderConfig encoder;
  if (has_encoder) {
    ASSIGN_OR_RETURN(encoder, encoder_config(config, encoder_path));
    ASSIGN_OR_RETURN(const int64_t source_vocabulary, vocabulary_of(encoder, vocabulary, encoder_path));
    ParameterPtr shared;
    if (encoder.shared_embedding) {
      if (encoder.width != config.width || source_vocabulary != model->vocabulary_) {
        return absl::InvalidArgumentError("[" + encoder_path +
                                          "] shared_embedding = true needs the decoder's width and vocabulary");
      }
      Parameters own;
      shared = own.add("embedding.weight", {source_vocabulary, encoder.width}, embedding_initialiser(encoder));
      model->parameters_.adopt("", own);
    }
    ASSIGN_OR_RETURN(model->encoder_, Stack::make(encoder, source_vocabulary, shared, "encoder.", /*memory_width=*/0,
                                                  encoder_path, registry));
    model->parameters_.adopt("encoder", model->encoder_->parameters());
    model->reverse_source_ = encoder.reverse;
  }
  ASSIGN_OR_RETURN(model->decoder_, Stack::make(config, model->vocabulary_,
                                                encoder.shared_embedding ? model->encoder_->embedding() : nullptr, "",
                                                has_encoder ? model->encoder_->output_width() : 0, path, registry));
  model->parameters_.adopt("", model->decoder_->parameters());
  if (config.handover) {
    if (!has_encoder) {
      return absl::InvalidArgumentError("[" + path + "] handover = true needs an encoder whose states are handed over");
    }
    RETURN_IF_ERROR(check_handover(*model->encoder_, *model->decoder_, path));
    model->decoder_->continue_states();
  }
  const int64_t width = model->decoder_->output_width();
  if (config.tied) {
    if (width != config.width) {
      return absl::InvalidArgumentError("[" + path + "] the last block gives a width of " + std::to_string(width) +
                                        ", which the embedding's matrix does not read: set tied = false");
    }
    model->head_.emplace(model->decoder_->embedding());
  } else {
    model->head_.emplace(width, model->vocabulary_,
                         Linear::Options{.weight = head_initialiser(config, model->vocabulary_, width)});
    model->parameters_.adopt("head", model->head_->parameters());
  }
  return model;
}

EncodedSource LanguageModel::encode(const Tensor& source, const Context& context) {
  TORCH_CHECK(encoder_, "this model has no encoder");
  EncodedSource result;
  if (config_.handover) {
    result.states = encoder_->initial_states(
        {source.size(0), 0, at::TensorOptions().dtype(compute_dtype_).device(source.device())});
  }
  const Tensor tokens = reverse_source_ ? reversed_tokens(source, context) : source;
  Tensor values = encoder_->forward(tokens, context, config_.handover ? &result.states : nullptr, compute_dtype_);
  if (context.ragged) values = values.masked_fill(context.positions.lt(0).unsqueeze(-1), 0.0);
  result.memory = {values, context.positions, context.ragged};
  return result;
}

Tensor LanguageModel::decode(StackForward forward, const Tensor& tokens, const Context& context, ModelState* state) {
  TORCH_CHECK(!encoder_ || state || (context.memory && !config_.handover),
              "a model with an encoder needs a source: encode it, and give its memory or a state made of it");
  // Operators of a token are so small that looking for a graph to extend would be a good part of their time.
  std::optional<at::AutoDispatchBelowADInplaceOrView> no_graph;
  if (!at::GradMode::is_enabled()) no_graph.emplace();
  return ((*decoder_).*forward)(tokens, context, state ? &state->blocks : nullptr, compute_dtype_);
}

Tensor LanguageModel::hidden(const Tensor& tokens, const Context& context, ModelState* state) {
  return decode(&Stack::forward, tokens, context, state);
}

Tensor LanguageModel::last_hidden(const Tensor& tokens, const Context& context, ModelState* state) {
  return decode(&Stack::forward_to_last, tokens, context, state);
}

Tensor LanguageModel::logits(const Tensor& hidden) const { return head_->forward(hidden); }

ModelState LanguageModel::initial_state(int64_t rows, int64_t capacity, const EncodedSource* source) const {
  TORCH_CHECK((source != nullptr) == encoder_.has_value(),
              "a state is made of a source exactly where there is an encoder");
  const StateSpec spec{rows, capacity, at::TensorOptions().dtype(compute_dtype_).device(device()),
                       source ? &source->memory : nullptr};
  ModelState state;
  if (config_.handover) {
    for (const State& handed : source->states) state.blocks.push_back(handed.clone());
  } else {
    state.blocks = decoder_->initial_states(spec);
  }
  return state;
}

int64_t LanguageModel::active_parameters() const {
  return parameters_.count() - decoder_->inactive_parameters() - (encoder_ ? encoder_->inactive_parameters() : 0);
}

Cost LanguageModel::cost(const Workload& workload) const {
  Cost total = decoder_->cost(workload);
  total.flops += head_->flops(static_cast<double>(workload.rows * workload.length));
  if (encoder_ && workload.context == 0 && workload.memory_length > 0) {
    Workload source = workload;
    source.length = workload.memory_length;
    source.memory_length = 0;
    Cost encoding = encoder_->cost(source);
    encoding.state_bytes = 0;  // what the decoder keeps of it is in the decoder's figure
    total += encoding;
  }
  return total;
}

KernelClass LanguageModel::kernel_class() const {
  KernelClass result = KernelClass::kFused;
  for (const Stack* stack : {&*decoder_, encoder()}) {
    if (!stack) continue;
    for (const auto& block : stack->blocks()) {
      if (block->mixes_tokens()) result = std::min(result, block->layer().traits().kernel_class);
    }
  }
  return result;
}

}  // namespace hippodrome
