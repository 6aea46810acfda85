#include "core/model/language_model.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>

#include <algorithm>
#include <cmath>

#include "core/base/text.h"

namespace hippodrome {
namespace {

Initialiser embedding_initialiser(const std::string& name) {
  return name == "uniform" ? initialise::uniform(-1e-4, 1e-4) : initialise::normal(0.02);
}

Initialiser head_initialiser(const std::string& name, int64_t vocabulary, int64_t width) {
  if (name == "orthogonal") {
    const double ratio = static_cast<double>(vocabulary) / static_cast<double>(width);
    return initialise::orthogonal(0.5 * (ratio > 1.0 ? std::sqrt(ratio) : 1.0));
  }
  return name == "default" ? initialise::uniform_fan_in(width) : initialise::normal(0.02);
}

// PE(pos, 2i) = sin(pos / 10000^(2i/D)), PE(pos, 2i+1) = cos of the same (Vaswani et al. 2017, section 3.5); [B, L, D].
Tensor sinusoids(const Tensor& positions, int64_t width) {
  const auto options = positions.options().dtype(at::kDouble);
  const Tensor exponent = at::arange(0, width, 2, options).mul(-std::log(10000.0) / static_cast<double>(width));
  const Tensor angle = positions.to(at::kDouble).unsqueeze(-1).mul(exponent.exp());
  return at::cat({angle.sin().unsqueeze(-1), angle.cos().unsqueeze(-1)}, -1).flatten(-2).narrow(-1, 0, width);
}

}  // namespace

void ModelConfig::bind(Fields& fields) {
  fields.texts("pattern", pattern, "the blocks of one repetition, in order; each names a table in `blocks`");
  fields.integer("repeats", repeats, {1, 10000}, "repetitions of the pattern");
  fields.integer("width", width, {1, 1 << 20}, "model width D");
  fields.integer("vocabulary", vocabulary, {0, int64_t{1} << 31}, "rows of embedding and head; 0: the task's tokens");
  fields.choice("norm", block.norm, {"layer_norm", "rms_norm"}, "normalisation");
  fields.choice("norm_position", block.norm_position, {"pre", "post", "none"}, "where blocks normalise");
  fields.number("norm_epsilon", block.norm_epsilon, {0.0, 1.0}, "added to the variance");
  fields.flag("final_norm", final_norm, "a norm before the head");
  fields.number("final_norm_epsilon", final_norm_epsilon, {0.0, 1.0}, "of the norm before the head; 0: norm_epsilon");
  fields.flag("embedding_norm", embedding_norm, "a norm straight after the embedding");
  fields.choice("positions", positions, {"none", "learned", "sinusoidal"}, "position embedding added to the tokens'");
  fields.integer("max_positions", max_positions, {1, int64_t{1} << 40}, "rows of the learned position table");
  fields.flag("tied", tied, "the head shares the embedding's matrix");
  fields.choice("embedding_init", embedding_init, {"normal", "uniform"}, "N(0, 0.02), or U(±1e-4) as RWKV");
  fields.number("embedding_scale", embedding_scale, {0.0, 1e6}, "factor on the embedding");
  fields.choice("head_init", head_init, {"normal", "default", "orthogonal"},
                "of an untied head: N(0, 0.02), U(±1/√D), or orthogonal as RWKV");
  fields.tree("blocks", blocks, "one table per pattern entry: the block's and the layer's keys");
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
  if (config.vocabulary > 0) {
    if (config.vocabulary < vocabulary) {
      return absl::InvalidArgumentError("[" + path + "] vocabulary = " + std::to_string(config.vocabulary) +
                                        " is less than the " + std::to_string(vocabulary) + " tokens to be read");
    }
    vocabulary = config.vocabulary;
  }
  if (config.pattern.empty()) {
    return absl::InvalidArgumentError("[" + path + "] has no blocks: give a preset, or a pattern such as "
                                      "pattern = [\"attention\", \"mlp\"]");
  }
  for (const auto& [key, value] : *config.blocks.table()) {
    if (std::find(config.pattern.begin(), config.pattern.end(), key) == config.pattern.end()) {
      return absl::InvalidArgumentError(value.where().text() + ": [" + path + ".blocks." + key +
                                        "] describes a block that the pattern does not hold" +
                                        suggestion(key, config.pattern));
    }
    if (!value.table()) {
      return absl::InvalidArgumentError(value.where().text() + ": [" + path + ".blocks] \"" + key +
                                        "\" must be a table");
    }
  }
  auto model = std::make_unique<LanguageModel>();
  model->config_ = config;
  model->vocabulary_ = vocabulary;
  const int64_t width = config.width;
  const Norm::Kind norm = config.block.norm == "rms_norm" ? Norm::Kind::kRmsNorm : Norm::Kind::kLayerNorm;
  Parameters& parameters = model->parameters_;
  model->embedding_ =
      parameters.add("embedding.weight", {vocabulary, width}, embedding_initialiser(config.embedding_init));
  if (config.positions == "learned") {
    model->position_embedding_ =
        parameters.add("position_embedding.weight", {config.max_positions, width}, initialise::normal(0.02));
  }
  if (config.embedding_norm) {
    model->embedding_norm_.emplace(norm, width, config.block.norm_epsilon);
    parameters.adopt("embedding_norm", model->embedding_norm_->parameters());
  }
  const auto blocks = static_cast<int64_t>(config.pattern.size()) * config.repeats;
  static const ConfigValue no_keys;
  for (int64_t repeat = 0; repeat < config.repeats; ++repeat) {
    for (const std::string& entry : config.pattern) {
      const std::string prefix = "blocks." + std::to_string(model->blocks_.size());
      const ConfigValue* table = config.blocks.find(entry);
      const Site site{prefix + ".mixer", width, width, repeat, config.repeats, blocks};
      ASSIGN_OR_RETURN(auto block, Block::make(entry, table ? *table : no_keys, config.block, path + ".blocks." + entry,
                                               site, registry));
      parameters.adopt(prefix, block->parameters());
      model->blocks_.push_back(std::move(block));
    }
  }
  if (config.final_norm) {
    model->final_norm_.emplace(norm, width,
                               config.final_norm_epsilon > 0.0 ? config.final_norm_epsilon : config.block.norm_epsilon);
    parameters.adopt("final_norm", model->final_norm_->parameters());
  }
  if (config.tied) {
    model->head_.emplace(model->embedding_);
  } else {
    model->head_.emplace(width, vocabulary, Linear::Options{.weight = head_initialiser(config.head_init, vocabulary, width)});
    parameters.adopt("head", model->head_->parameters());
  }
  return model;
}

Tensor LanguageModel::embed(const Tensor& tokens, const Context& context) const {
  Tensor x = at::embedding(embedding_->value, tokens);
  if (config_.embedding_scale != 1.0) x = x.mul(config_.embedding_scale);
  if (config_.positions == "sinusoidal") {
    x = x.add(sinusoids(context.positions.clamp_min(0), x.size(2)).to(x.scalar_type()));
  } else if (position_embedding_) {
    const int64_t longest = context.positions.max().item().toLong() + 1;
    TORCH_CHECK(longest <= config_.max_positions, "a sequence of ", longest, " tokens is longer than the model's ",
                config_.max_positions, " learned positions: raise max_positions");
    x = x.add(at::embedding(position_embedding_->value, context.positions.clamp_min(0)));
  }
  return embedding_norm_ ? embedding_norm_->forward(x) : x;
}

Tensor LanguageModel::hidden(const Tensor& tokens, const Context& context, ModelState* state) {
  // Operators of a token are so small that looking for a graph to extend would be a good part of their time.
  std::optional<at::AutoDispatchBelowADInplaceOrView> no_graph;
  if (!at::GradMode::is_enabled()) no_graph.emplace();
  Tensor x = embed(tokens, context);
  for (size_t i = 0; i < blocks_.size(); ++i) {
    x = blocks_[i]->forward(x, context, state ? &state->blocks[i] : nullptr, compute_dtype_);
  }
  if (final_norm_) x = final_norm_->forward(x);
  return x.to(compute_dtype_);
}

Tensor LanguageModel::logits(const Tensor& hidden) const { return head_->forward(hidden); }

ModelState LanguageModel::initial_state(int64_t rows, int64_t capacity) const {
  const StateSpec spec{rows, capacity,
                       at::TensorOptions().dtype(compute_dtype_).device(embedding_->value.device())};
  ModelState state;
  for (const auto& block : blocks_) state.blocks.push_back(block->layer().initial_state(spec));
  return state;
}

int64_t LanguageModel::active_parameters() const {
  int64_t active = parameters_.count();
  for (const auto& block : blocks_) {
    const Layer& layer = block->layer();
    active -= layer.parameters().count() - layer.active_parameters();
  }
  return active;
}

Cost LanguageModel::cost(const Workload& workload) const {
  Cost total;
  for (const auto& block : blocks_) total += block->layer().cost(workload);
  total.flops += head_->flops(static_cast<double>(workload.rows * workload.length));
  return total;
}

KernelClass LanguageModel::kernel_class() const {
  KernelClass result = KernelClass::kFused;
  for (const auto& block : blocks_) {
    const Traits traits = block->layer().traits();
    if (traits.state_growth != StateGrowth::kNone) result = std::min(result, traits.kernel_class);
  }
  return result;
}

}  // namespace hippodrome
