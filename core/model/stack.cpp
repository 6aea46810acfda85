#include "core/model/stack.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <cmath>

#include "core/base/text.h"
#include "core/tensor/dropout.h"

namespace hippodrome {
namespace {

// PE(pos, 2i) = sin(pos / 10000^(2i/D)), PE(pos, 2i+1) = cos of the same (Vaswani et al. 2017, section 3.5); [B, L, D].
Tensor sinusoids(const Tensor& positions, int64_t width) {
  const auto options = positions.options().dtype(at::kDouble);
  const Tensor exponent = at::arange(0, width, 2, options).mul(-std::log(10000.0) / static_cast<double>(width));
  const Tensor angle = positions.to(at::kDouble).unsqueeze(-1).mul(exponent.exp());
  return at::cat({angle.sin().unsqueeze(-1), angle.cos().unsqueeze(-1)}, -1).flatten(-2).narrow(-1, 0, width);
}

// One sentence where the tables of `blocks` and the pattern do not fit each other.
absl::Status check_pattern(const StackConfig& config, const std::string& path) {
  if (config.pattern.empty()) {
    return absl::InvalidArgumentError("[" + path +
                                      "] has no blocks: give a preset, or a pattern such as "
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
  return absl::OkStatus();
}

}  // namespace

Initialiser embedding_initialiser(const StackConfig& config) {
  return config.embedding_init == "uniform" ? initialise::uniform(-config.init_range, config.init_range)
                                            : initialise::normal(config.init_deviation);
}

void StackConfig::bind(Fields& fields) {
  fields.texts("pattern", pattern, "the blocks of one repetition, in order; each names a table in `blocks`");
  fields.integer("repeats", repeats, {1, 10000}, "repetitions of the pattern");
  fields.integer("width", width, {1, 1 << 20}, "model width D");
  fields.integer("vocabulary", vocabulary, {0, int64_t{1} << 31}, "rows of embedding and head; 0: the task's tokens");
  fields.choice("norm", block.norm, {"layer_norm", "rms_norm"}, "normalisation");
  fields.choice("norm_position", block.norm_position, {"pre", "post", "none"}, "where blocks normalise");
  fields.number("norm_epsilon", block.norm_epsilon, {0.0, 1.0}, "added to the variance");
  fields.flag("residual", block.residual, "blocks add their input to their layer's output");
  fields.number("dropout", block.dropout, {0.0, 0.999},
                "share of the embedding and of every layer's output that training zeroes");
  fields.flag("final_norm", final_norm, "a norm before the head");
  fields.number("final_norm_epsilon", final_norm_epsilon, {0.0, 1.0}, "of the norm before the head; 0: norm_epsilon");
  fields.flag("embedding_norm", embedding_norm, "a norm straight after the embedding");
  fields.choice("positions", positions, {"none", "learned", "sinusoidal"}, "position embedding added to the tokens'");
  fields.integer("max_positions", max_positions, {1, int64_t{1} << 40}, "rows of the learned position table");
  fields.choice("embedding_init", embedding_init, {"normal", "uniform"}, "N(0, init_deviation), or U(±init_range)");
  fields.number("init_deviation", init_deviation, {0.0, 100.0}, "of normal draws of embedding and head");
  fields.number("init_range", init_range, {0.0, 100.0}, "of uniform draws of embedding and head; RWKV's is 1e-4");
  fields.number("embedding_scale", embedding_scale, {0.0, 1e6}, "factor on the embedding");
  fields.tree("blocks", blocks, "one table per pattern entry: the block's and the layer's keys");
}

absl::StatusOr<Stack> Stack::make(const StackConfig& config, int64_t vocabulary, ParameterPtr shared_embedding,
                                  const std::string& site, int64_t memory_width, const std::string& path,
                                  const Registry& registry) {
  RETURN_IF_ERROR(check_pattern(config, path));
  Stack stack;
  stack.config_ = config;
  stack.name_ = site;
  int64_t width = config.width;
  const Norm::Kind norm = config.block.norm == "rms_norm" ? Norm::Kind::kRmsNorm : Norm::Kind::kLayerNorm;
  Parameters& parameters = stack.parameters_;
  stack.embedding_ = shared_embedding
                         ? shared_embedding
                         : parameters.add("embedding.weight", {vocabulary, width}, embedding_initialiser(config));
  if (config.positions == "learned") {
    stack.position_embedding_ =
        parameters.add("position_embedding.weight", {config.max_positions, width}, initialise::normal(0.02));
  }
  if (config.embedding_norm) {
    stack.embedding_norm_.emplace(norm, width, config.block.norm_epsilon);
    parameters.adopt("embedding_norm", stack.embedding_norm_->parameters());
  }
  const auto blocks = static_cast<int64_t>(config.pattern.size()) * config.repeats;
  static const ConfigValue no_keys;
  for (int64_t repeat = 0; repeat < config.repeats; ++repeat) {
    for (const std::string& entry : config.pattern) {
      const std::string prefix = "blocks." + std::to_string(stack.blocks_.size());
      const ConfigValue* table = config.blocks.find(entry);
      const Site at{site + prefix + ".mixer", width, config.width, repeat, config.repeats, blocks, memory_width};
      ASSIGN_OR_RETURN(auto block, Block::make(entry, table ? *table : no_keys, config.block, path + ".blocks." + entry,
                                               at, registry));
      parameters.adopt(prefix, block->parameters());
      width = block->output_width();
      stack.blocks_.push_back(std::move(block));
    }
  }
  stack.output_width_ = width;
  if (config.final_norm) {
    stack.final_norm_.emplace(norm, width,
                              config.final_norm_epsilon > 0.0 ? config.final_norm_epsilon : config.block.norm_epsilon);
    parameters.adopt("final_norm", stack.final_norm_->parameters());
  }
  return stack;
}

Tensor Stack::embed(const Tensor& tokens, const Context& context) const {
  Tensor x = at::embedding(embedding_->value, tokens);
  if (config_.embedding_scale != 1.0) x = x.mul(config_.embedding_scale);
  if (config_.positions == "sinusoidal") {
    x = x.add(sinusoids(context.positions.clamp_min(0), x.size(2)).to(x.scalar_type()));
  } else if (position_embedding_) {
    // On the meta device there are no values to look at.
    const int64_t longest = context.positions.is_meta() ? 0 : context.positions.max().item().toLong() + 1;
    TORCH_CHECK(longest <= config_.max_positions, "a sequence of ", longest, " tokens is longer than the model's ",
                config_.max_positions, " learned positions: raise max_positions");
    x = x.add(at::embedding(position_embedding_->value, context.positions.clamp_min(0)));
  }
  if (embedding_norm_) x = embedding_norm_->forward(x);
  const double rate = config_.block.dropout;
  return context.training && rate > 0.0 ? dropout(x, rate, context.draw, name_ + "embedding") : x;
}

Tensor Stack::forward(const Tensor& tokens, const Context& context, std::vector<State>* states,
                      at::ScalarType compute_dtype) {
  const Context at_blocks = context_of_blocks(context);
  return ended(through(0, blocks_.size(), embed(tokens, context), at_blocks, states, compute_dtype), compute_dtype);
}

Tensor Stack::forward_to_last(const Tensor& tokens, const Context& context, std::vector<State>* states,
                              at::ScalarType compute_dtype) {
  size_t mixing = blocks_.size();
  while (mixing > 0 && !blocks_[mixing - 1]->mixes_tokens()) --mixing;
  Context at_blocks = context_of_blocks(context);
  const Tensor x = through(0, mixing, embed(tokens, context), at_blocks, states, compute_dtype);
  const int64_t last = tokens.size(1) - 1;
  at_blocks.positions = at_blocks.positions.narrow(1, last, 1);
  // Its own memory, so that what a long prompt took is free before the rest is computed.
  const Tensor of_last =
      through(mixing, blocks_.size(), x.narrow(1, last, 1).contiguous(), at_blocks, states, compute_dtype);
  return ended(of_last, compute_dtype);
}

Context Stack::context_of_blocks(const Context& context) const {
  Context at_blocks = context;
  if (continues_states_ && context.ragged) {
    at_blocks.positions = at::where(context.positions.eq(0), context.positions.add(1), context.positions);
  }
  return at_blocks;
}

Tensor Stack::through(size_t begin, size_t end, Tensor x, const Context& context, std::vector<State>* states,
                      at::ScalarType compute_dtype) {
  for (size_t i = begin; i < end; ++i) {
    x = blocks_[i]->forward(x, context, states ? &(*states)[i] : nullptr, compute_dtype);
  }
  return x;
}

Tensor Stack::ended(const Tensor& x, at::ScalarType compute_dtype) const {
  return (final_norm_ ? final_norm_->forward(x) : x).to(compute_dtype);
}

std::vector<State> Stack::initial_states(const StateSpec& spec) const {
  std::vector<State> states;
  for (const auto& block : blocks_) states.push_back(block->initial_state(spec));
  return states;
}

Cost Stack::cost(const Workload& workload) const {
  Cost total;
  for (const auto& block : blocks_) total += block->cost(workload);
  return total;
}

int64_t Stack::inactive_parameters() const {
  int64_t inactive = 0;
  for (const auto& block : blocks_) inactive += block->inactive_parameters();
  return inactive;
}

}  // namespace hippodrome
