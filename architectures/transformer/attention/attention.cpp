#include "architectures/transformer/attention/attention.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "architectures/transformer/causal_attention/causal_attention.h"

namespace hippodrome {
namespace attention_detail {
namespace {

int64_t kv_heads(const Attention::Config& config) { return config.kv_heads > 0 ? config.kv_heads : config.heads; }

int64_t head_size(const Attention::Config& config, const Site& site) {
  if (config.head_size > 0) return config.head_size;
  const int64_t size = (site.width + config.heads - 1) / config.heads;
  return size + size % 2;
}

RotaryScaling scaling(const Attention::Config& config) {
  return {config.rope_scaling, config.rope_factor, config.rope_low_frequency_factor, config.rope_high_frequency_factor,
          static_cast<double>(config.rope_original_length)};
}

Linear::Options options(const Attention::Config& config, bool bias, double deviation) {
  Linear::Options options{.bias = bias};
  if (config.init == "gpt2") {
    options.weight = initialise::normal(deviation);
    options.bias_initialiser = initialise::constant(0.0);
  }
  return options;
}

// Queries that share one mask where a mask is needed: large enough for full speed, small enough that the mask of a long
// prompt stays small.
constexpr int64_t kQueryBlock = 256;

// The entry that is there only once padding or packing was met: without them a row's keys are all its own.
constexpr char kPositions[] = "positions";

// Records the positions of the tokens about to be cached, where they matter, and those of the plain run before them.
void remember_positions(const Context& context, State& state, int64_t earlier) {
  if (!state.has(kPositions)) {
    if (!context.ragged) return;
    const int64_t rows = context.positions.size(0);
    const auto options = context.positions.options();
    state.declare(kPositions, StateKind::kPerToken, at::empty({rows, 0}, options), /*token_dimension=*/1);
    if (earlier > 0) state.append(kPositions, at::arange(earlier, options).expand({rows, earlier}));
  }
  state.append(kPositions, context.positions);
}

}  // namespace
}  // namespace attention_detail

void Attention::Config::bind(Fields& fields) {
  fields.integer("heads", heads, {1, 4096}, "query heads H");
  fields.integer("kv_heads", kv_heads, {0, 4096}, "key and value heads G, a divisor of heads; 0: as many as heads");
  fields.integer("head_size", head_size, {0, 4096}, "width of a head; 0: width / heads, rounded up to even");
  fields.choice("positions", positions, {"rope", "none"}, "rotary embedding of queries and keys, or nothing here");
  fields.number("rope_base", rope_base, {1.0, 1e12}, "base of the rotary frequencies");
  fields.choice("rope_layout", rope_layout, {"half", "interleaved"}, "pairs (i, i + hd/2) or (2i, 2i + 1)");
  fields.choice("rope_scaling", rope_scaling, {"none", "linear", "llama3"}, "of the frequencies, for longer contexts");
  fields.number("rope_factor", rope_factor, {1.0, 1e6}, "what scaled frequencies are divided by");
  fields.number("rope_low_frequency_factor", rope_low_frequency_factor, {0.0, 1e6},
                "llama3: waves that fit fewer times into the original length are divided");
  fields.number("rope_high_frequency_factor", rope_high_frequency_factor, {0.0, 1e6},
                "llama3: waves that fit more times into the original length stay");
  fields.integer("rope_original_length", rope_original_length, {1, int64_t{1} << 40},
                 "llama3: tokens of the first training's contexts");
  fields.integer("window", window, {0, int64_t{1} << 40},
                 "tokens a query sees, its own and those straight before; 0: all before");
  fields.flag("causal", causal, "a token sees those up to its own; false: its whole sequence, by LibTorch");
  fields.flag("qkv_bias", qkv_bias, "biases of the query, key and value projections");
  fields.flag("output_bias", output_bias, "bias of the output projection");
  fields.choice("kernel", kernel, {"fused", "library", "reference"},
                "blocks with an online softmax (on the CPU), LibTorch's scaled_dot_product_attention, or plain loops");
  fields.choice("init", init, {"default", "gpt2"},
                "default: U(±1/√fan-in); gpt2: N(0, 0.02), output 0.02/√blocks, biases 0");
}

absl::Status Attention::check(const Config& config, const Site& site) {
  if (config.heads % attention_detail::kv_heads(config) != 0) {
    return absl::InvalidArgumentError("heads = " + std::to_string(config.heads) +
                                      " must be a multiple of kv_heads = " + std::to_string(config.kv_heads));
  }
  if (config.positions == "rope" && attention_detail::head_size(config, site) % 2 != 0) {
    return absl::InvalidArgumentError("rotary positions need an even head_size, not " +
                                      std::to_string(config.head_size));
  }
  if (!config.causal && config.window > 0) {
    return absl::InvalidArgumentError("window = " + std::to_string(config.window) +
                                      " looks back only: set causal = true");
  }
  if (config.rope_scaling == "llama3" && config.rope_high_frequency_factor <= config.rope_low_frequency_factor) {
    return absl::InvalidArgumentError("rope_high_frequency_factor must be above rope_low_frequency_factor");
  }
  return absl::OkStatus();
}

Attention::Attention(const Config& config, const Site& site)
    : config_(config),
      name_(site.name),
      heads_(config.heads),
      kv_heads_(attention_detail::kv_heads(config)),
      head_size_(attention_detail::head_size(config, site)),
      frequencies_(
          at::tensor(rotary_frequencies(head_size_, config.rope_base, attention_detail::scaling(config)), at::kDouble)),
      qkv_(site.width, (heads_ + 2 * kv_heads_) * head_size_, attention_detail::options(config, config.qkv_bias, 0.02)),
      out_(heads_ * head_size_, site.output_width,
           attention_detail::options(config, config.output_bias, 0.02 / std::sqrt(static_cast<double>(site.blocks)))) {
  parameters_.adopt("qkv", qkv_.parameters());
  parameters_.adopt("out", out_.parameters());
}

State Attention::initial_state(const StateSpec& spec) const {
  State state;
  if (!config_.causal) return state;
  for (const char* name : {"k", "v"}) {
    state.declare(name, StateKind::kPerToken,
                  at::empty({spec.rows, kv_heads_, spec.capacity, head_size_}, spec.options),
                  /*token_dimension=*/2);
  }
  return state;
}

Tensor Attention::forward(const Tensor& x, const Context& context, State* state) {
  const int64_t rows = x.size(0), length = x.size(1);
  const Tensor padding = context.ragged ? context.positions.lt(0).unsqueeze(-1) : Tensor();
  // Padding may hold anything; as zeros it cannot reach the cache or a sum as a NaN.
  const Tensor projected = qkv_.forward(padding.defined() ? x.masked_fill(padding, 0.0) : x);
  const QueriesKeysValues parts = split_heads(projected, context);
  const Tensor q = parts.q.transpose(1, 2);
  Tensor k = parts.k.transpose(1, 2);
  Tensor v = parts.v.transpose(1, 2);
  int64_t earlier = 0;
  if (state && config_.causal) {
    earlier = state->tokens("k");
    attention_detail::remember_positions(context, *state, earlier);
    k = state->append("k", k);
    v = state->append("v", v);
  }
  Sight sight{.earlier = earlier, .total = earlier + length, .positions = {}};
  if (state && config_.causal && state->has(attention_detail::kPositions)) {
    sight.positions = state->get(attention_detail::kPositions);
  } else if (context.ragged) {
    sight.positions = context.positions;
  }
  // All weights take L × T memory. Training always has an observer, which looks for losses.
  if (context.observer && !context.training) context.observer->report(name_, "attention_weights", weights(q, k, sight));
  // The fused kernel and the plain loops are the CPU's; other devices have LibTorch's operators.
  const bool reference = config_.kernel == "reference";
  Tensor y;
  if (config_.causal && x.device().is_cpu() && config_.kernel != "library") {
    y = std::get<0>(causal_attention(q, k, v, std::nullopt, config_.window, sight.op_positions(), reference));
  } else {
    y = reference ? weighted_sum(q, k, v, sight) : attend(q, k, v, sight);
  }
  y = y.transpose(1, 2).reshape({rows, length, heads_ * head_size_});
  if (padding.defined()) y = y.masked_fill(padding, 0.0);
  return out_.forward(y);
}

Tensor Attention::weighted_sum(const Tensor& q, const Tensor& k, const Tensor& v, const Sight& sight) const {
  const int64_t rows = q.size(0), length = q.size(2), shared = heads_ / kv_heads_;
  const Tensor grouped = weights(q, k, sight).reshape({rows, kv_heads_, shared * length, sight.total});
  return at::matmul(grouped, v.to(grouped.scalar_type())).view({rows, heads_, length, head_size_}).to(q.scalar_type());
}

QueriesKeysValues Attention::split_heads(const Tensor& projected, const Context& context) {
  if (config_.positions == "rope") {
    const Tensor table =
        rotary_table(context.positions, frequencies_.on(context.positions.device()), projected.scalar_type());
    return rotate_heads(projected, heads_, kv_heads_, table,
                        config_.rope_layout == "half" ? RotaryLayout::kHalf : RotaryLayout::kInterleaved);
  }
  const Tensor all = projected.view({projected.size(0), projected.size(1), heads_ + 2 * kv_heads_, head_size_});
  const auto parts = all.split_with_sizes({heads_, kv_heads_, kv_heads_}, 2);
  return {parts[0], parts[1], parts[2]};
}

Tensor Attention::visible(const Sight& sight, int64_t begin, int64_t end, int64_t first, const Tensor& like) const {
  const auto options = like.options().dtype(at::kLong);
  const Tensor query = at::arange(begin, end, options).unsqueeze(-1), key = at::arange(first, end, options);
  if (!sight.positions.defined()) {
    if (!config_.causal) return key.ge(0).expand({1, 1, end - begin, end - first});
    const Tensor seen = key.le(query);
    return (config_.window > 0 ? seen.logical_and(key.gt(query.sub(config_.window))) : seen)
        .view({1, 1, end - begin, end - first});
  }
  const auto queries = [&](const Tensor& t) { return t.slice(1, begin, end).unsqueeze(-1); };
  const auto keys = [&](const Tensor& t) { return t.slice(1, first, end).unsqueeze(1); };
  const Tensor sequence = sight.positions.eq(0).cumsum(1);  // its number in the row
  const Tensor there = sight.positions.ge(0);
  Tensor seen = queries(sequence).eq(keys(sequence)).logical_and(keys(there));
  if (config_.causal) seen = seen.logical_and(key.le(query));
  if (config_.window > 0) {
    const Tensor token = there.cumsum(1);  // padding does not use up the window
    seen = seen.logical_and(keys(token).gt(queries(token).sub(config_.window)));
  }
  // A row of the softmax must see something: padding sees itself, and its result is thrown away.
  return seen.logical_or(key.eq(query)).unsqueeze(1);
}

Tensor Attention::attend(const Tensor& q, const Tensor& k, const Tensor& v, const Sight& sight) const {
  const int64_t length = q.size(2);
  const bool windowed = config_.window > 0 && config_.window < sight.total;
  if (!sight.positions.defined() && !windowed) {
    if (length == 1 || !config_.causal) return scaled_dot_product(q, k, v, std::nullopt, false);
    if (sight.earlier == 0) return scaled_dot_product(q, k, v, std::nullopt, true);
  }
  // LibTorch knows no window, and its is_causal aligns the triangle at the top left, where a continuation needs it at
  // the bottom right: blocks of queries with a mask of their own, over the keys that they may see.
  std::vector<Tensor> parts;
  for (int64_t begin = sight.earlier; begin < sight.total; begin += attention_detail::kQueryBlock) {
    const int64_t end = std::min(begin + attention_detail::kQueryBlock, sight.total);
    // With padding about, a window's tokens may reach back further than its number.
    const int64_t first = windowed && !sight.positions.defined() ? std::max<int64_t>(0, begin - config_.window + 1) : 0;
    parts.push_back(scaled_dot_product(q.slice(2, begin - sight.earlier, end - sight.earlier), k.slice(2, first, end),
                                       v.slice(2, first, end), visible(sight, begin, end, first, q), false));
  }
  return parts.size() == 1 ? parts[0] : at::cat(parts, 2);
}

Tensor Attention::scaled_dot_product(const Tensor& q, const Tensor& k, const Tensor& v, OptionalTensor mask,
                                     bool triangle) const {
  const int64_t rows = q.size(0), length = q.size(2), shared = heads_ / kv_heads_;
  if (shared == 1) return at::scaled_dot_product_attention(q, k, v, mask, 0.0, triangle);
  if (length == 1) {
    // The heads of a group as queries of one head: no copy of the cache.
    const Tensor grouped = q.reshape({rows, kv_heads_, shared, head_size_});
    if (mask) mask = mask->expand({mask->size(0), 1, shared, k.size(2)});
    return at::scaled_dot_product_attention(grouped, k, v, mask).reshape({rows, heads_, 1, head_size_});
  }
  const auto repeated = [&](const Tensor& t) {
    return t.unsqueeze(2).expand({rows, kv_heads_, shared, t.size(2), head_size_}).flatten(1, 2);
  };
  return at::scaled_dot_product_attention(q, repeated(k), repeated(v), mask, 0.0, triangle);
}

Tensor Attention::weights(const Tensor& q, const Tensor& k, const Sight& sight) const {
  const int64_t rows = q.size(0), length = q.size(2), shared = heads_ / kv_heads_;
  const auto wide = q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  // The heads of a group share their keys: [B, G, H/G · L, hd] against [B, G, T, hd].
  const Tensor queries = q.to(wide).reshape({rows, kv_heads_, shared * length, head_size_});
  return at::matmul(queries, k.to(wide).transpose(-1, -2))
      .mul(1.0 / std::sqrt(static_cast<double>(head_size_)))
      .view({rows, heads_, length, sight.total})
      .masked_fill(visible(sight, sight.earlier, sight.total, 0, q).logical_not(),
                   -std::numeric_limits<double>::infinity())
      .softmax(-1);
}

Traits Attention::traits() const {
  return {.causal = config_.causal,
          .packs = true,
          .state_growth = config_.causal ? StateGrowth::kLinear : StateGrowth::kNone,
          .kernel_class = config_.kernel == "reference"                    ? KernelClass::kReference
                          : config_.kernel == "library" || !config_.causal ? KernelClass::kLibrary
                                                                           : KernelClass::kFused,
          .window = config_.window};
}

Cost Attention::cost(const Workload& workload) const {
  const int64_t tokens = workload.rows * workload.length, total = workload.context + workload.length;
  const int64_t queries = heads_ * head_size_, keys = kv_heads_ * head_size_;
  const auto element = workload.element_size;
  Cost cost;
  const double heads = static_cast<double>(workload.rows * heads_), size = static_cast<double>(head_size_);
  const double projections_flops = qkv_.flops(static_cast<double>(tokens)) + out_.flops(static_cast<double>(tokens));
  if (!config_.causal) {
    // The products alone: the plain form is LibTorch's.
    const double square = static_cast<double>(workload.length) * static_cast<double>(workload.length);
    cost.flops = projections_flops + heads * square * 4.0 * size;
    cost.bytes_moved = static_cast<double>(
        (parameters_.count() + tokens * (qkv_.in() + 4 * queries + 4 * keys + out_.out())) * element);
    cost.saved_bytes = tokens * ((qkv_.in() + 2 * queries + 2 * keys) * element + heads_ * 4);
    return cost;
  }
  // Pairs of a query and a key that it sees, of one row and head.
  double pairs = 0.0;
  if (config_.window == 0 || config_.window >= total) {
    pairs = 0.5 * static_cast<double>(workload.length) * static_cast<double>(workload.context + 1 + total);
  } else {
    // The first queries see fewer than a window.
    const int64_t short_ones = std::clamp<int64_t>(config_.window - workload.context, 0, workload.length);
    pairs = 0.5 * static_cast<double>(short_ones) * static_cast<double>(2 * workload.context + 1 + short_ones) +
            static_cast<double>(workload.length - short_ones) * static_cast<double>(config_.window);
  }
  // Score and weighted sum, and four for scale and softmax; division by the sum, and its logarithm.
  cost.flops =
      projections_flops + heads * (pairs * (4.0 * size + 4.0) + static_cast<double>(workload.length) * (size + 3.0));
  cost.state_bytes = workload.rows * total * 2 * keys * element;
  const int64_t projections = tokens * (qkv_.in() + 2 * (queries + 2 * keys) + 2 * queries + out_.out());
  cost.bytes_moved = static_cast<double>((parameters_.count() + projections) * element + cost.state_bytes);
  // x, rotated queries and keys, values, the heads' results, and the softmax's logarithms of sums in float32.
  cost.saved_bytes = tokens * ((qkv_.in() + 2 * queries + 2 * keys) * element + heads_ * 4);
  return cost;
}

}  // namespace hippodrome
