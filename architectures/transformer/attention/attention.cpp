#include "architectures/transformer/attention/attention.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include <cmath>
#include <limits>

#include "architectures/transformer/attention/rotary.h"

namespace hippodrome {
namespace attention_detail {
namespace {

int64_t kv_heads(const Attention::Config& config) { return config.kv_heads > 0 ? config.kv_heads : config.heads; }

int64_t head_size(const Attention::Config& config, const Site& site) {
  if (config.head_size > 0) return config.head_size;
  const int64_t size = (site.width + config.heads - 1) / config.heads;
  return size + size % 2;
}

Linear::Options options(const Attention::Config& config, bool bias, double deviation) {
  Linear::Options options{.bias = bias};
  if (config.init == "gpt2") {
    options.weight = initialise::normal(deviation);
    options.bias_initialiser = initialise::constant(0.0);
  }
  return options;
}

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
  fields.flag("qkv_bias", qkv_bias, "biases of the query, key and value projections");
  fields.flag("output_bias", output_bias, "bias of the output projection");
  fields.choice("kernel", kernel, {"library", "reference"},
                "LibTorch's scaled_dot_product_attention, or plain softmax(QKᵀ)V");
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
  return absl::OkStatus();
}

Attention::Attention(const Config& config, const Site& site)
    : config_(config),
      name_(site.name),
      heads_(config.heads),
      kv_heads_(attention_detail::kv_heads(config)),
      head_size_(attention_detail::head_size(config, site)),
      qkv_(site.width, (heads_ + 2 * kv_heads_) * head_size_, attention_detail::options(config, config.qkv_bias, 0.02)),
      out_(heads_ * head_size_, site.output_width,
           attention_detail::options(config, config.output_bias, 0.02 / std::sqrt(static_cast<double>(site.blocks)))) {
  parameters_.adopt("qkv", qkv_.parameters());
  parameters_.adopt("out", out_.parameters());
}

State Attention::initial_state(const StateSpec& spec) const {
  State state;
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
  const auto parts = projected.split_with_sizes({(heads_ + kv_heads_) * head_size_, kv_heads_ * head_size_}, -1);
  Tensor qk = parts[0].view({rows, length, heads_ + kv_heads_, head_size_});
  if (config_.positions == "rope") {
    const Tensor table = rotary_table(context.positions, head_size_, config_.rope_base, x.scalar_type());
    qk = rotate(qk, table, config_.rope_layout == "half" ? RotaryLayout::kHalf : RotaryLayout::kInterleaved);
  }
  const Tensor q = qk.narrow(2, 0, heads_).transpose(1, 2);
  Tensor k = qk.narrow(2, heads_, kv_heads_).transpose(1, 2);
  Tensor v = parts[1].view({rows, length, kv_heads_, head_size_}).transpose(1, 2);
  int64_t earlier = 0;
  if (state) {
    earlier = state->tokens("k");
    attention_detail::remember_positions(context, *state, earlier);
    k = state->append("k", k);
    v = state->append("v", v);
  }
  const Scope visible = scope(context, state, length, earlier);
  Tensor y =
      config_.kernel == "reference" ? attend_reference(q, k, v, visible, context.observer) : attend(q, k, v, visible);
  if (padding.defined()) y = y.masked_fill(padding, 0.0);
  return out_.forward(y);
}

Attention::Scope Attention::scope(const Context& context, const State* state, int64_t length, int64_t earlier) const {
  const bool tracked = state && state->has(attention_detail::kPositions);
  if (!tracked && !context.ragged) {
    if (length == 1) return {};
    if (earlier == 0) return {.visible = {}, .triangle = true};
    // LibTorch's is_causal aligns the triangle to the top left; a continuation needs it at the bottom right.
    const auto options = context.positions.options().dtype(at::kBool);
    return {.visible = at::ones({1, 1, length, earlier + length}, options).tril(earlier), .triangle = false};
  }
  const Tensor positions = tracked ? state->get(attention_detail::kPositions) : context.positions;  // [B, T]
  const int64_t total = earlier + length;
  const Tensor sequence = positions.eq(0).cumsum(1);  // its number in the row
  const Tensor column = at::arange(total, positions.options());
  const Tensor query_column = column.narrow(0, earlier, length).unsqueeze(-1);
  const Tensor same = sequence.narrow(1, earlier, length).unsqueeze(-1).eq(sequence.unsqueeze(1));
  const Tensor seen = same.logical_and(positions.ge(0).unsqueeze(1)).logical_and(column.le(query_column));
  // A row of the softmax must see something: padding sees itself, and its result is thrown away.
  return {.visible = seen.logical_or(column.eq(query_column)).unsqueeze(1), .triangle = false};
}

Tensor Attention::attend(const Tensor& q, const Tensor& k, const Tensor& v, const Scope& scope) const {
  const int64_t rows = q.size(0), length = q.size(2), shared = heads_ / kv_heads_;
  OptionalTensor mask;
  if (scope.visible.defined()) mask = scope.visible;
  Tensor y;
  if (shared == 1) {
    y = at::scaled_dot_product_attention(q, k, v, mask, 0.0, scope.triangle);
  } else if (length == 1) {
    // The heads of a group as queries of one head: no copy of the cache.
    const Tensor grouped = q.reshape({rows, kv_heads_, shared, head_size_});
    if (mask) mask = mask->expand({mask->size(0), 1, shared, k.size(2)});
    y = at::scaled_dot_product_attention(grouped, k, v, mask).reshape({rows, heads_, 1, head_size_});
  } else {
    const auto repeated = [&](const Tensor& t) {
      return t.unsqueeze(2).expand({rows, kv_heads_, shared, t.size(2), head_size_}).flatten(1, 2);
    };
    y = at::scaled_dot_product_attention(q, repeated(k), repeated(v), mask, 0.0, scope.triangle);
  }
  return y.transpose(1, 2).reshape({rows, length, heads_ * head_size_});
}

Tensor Attention::attend_reference(const Tensor& q, const Tensor& k, const Tensor& v, const Scope& scope,
                                   Observer* observer) const {
  const int64_t rows = q.size(0), length = q.size(2), total = k.size(2), shared = heads_ / kv_heads_;
  const auto wide = q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  // The heads of a group share their keys: [B, G, H/G · L, hd] against [B, G, T, hd].
  const Tensor queries = q.to(wide).reshape({rows, kv_heads_, shared * length, head_size_});
  Tensor scores = at::matmul(queries, k.to(wide).transpose(2, 3)).mul(1.0 / std::sqrt(static_cast<double>(head_size_)));
  scores = scores.view({rows, heads_, length, total});
  Tensor visible = scope.visible;
  if (scope.triangle) visible = at::ones({1, 1, length, total}, q.options().dtype(at::kBool)).tril();
  if (visible.defined()) {
    scores = scores.masked_fill(visible.logical_not(), -std::numeric_limits<double>::infinity());
  }
  const Tensor weights = scores.softmax(-1);
  if (observer) observer->report(name_, "attention_weights", weights);
  const Tensor y = at::matmul(weights.view({rows, kv_heads_, shared * length, total}), v.to(wide));
  return y.view({rows, heads_, length, head_size_})
      .transpose(1, 2)
      .reshape({rows, length, heads_ * head_size_})
      .to(q.scalar_type());
}

Traits Attention::traits() const {
  return {.causal = true,
          .packs = true,
          .state_growth = StateGrowth::kLinear,
          .kernel_class = config_.kernel == "reference" ? KernelClass::kReference : KernelClass::kLibrary};
}

Cost Attention::cost(const Workload& workload) const {
  const int64_t tokens = workload.rows * workload.length, total = workload.context + workload.length;
  const int64_t queries = heads_ * head_size_, keys = kv_heads_ * head_size_;
  const auto element = workload.element_size;
  Cost cost;
  // Two products of every query with every key, masked ones too, as the reference computes them.
  cost.flops = qkv_.flops(static_cast<double>(tokens)) + out_.flops(static_cast<double>(tokens)) +
               4.0 * static_cast<double>(tokens) * static_cast<double>(total * queries);
  cost.state_bytes = workload.rows * total * 2 * keys * element;
  const int64_t projections = tokens * (qkv_.in() + 2 * (queries + 2 * keys) + 2 * queries + out_.out());
  cost.bytes_moved = static_cast<double>((parameters_.count() + projections) * element + cost.state_bytes);
  // x, rotated queries and keys, values, the heads' results, and the softmax's logarithms of sums in float32.
  cost.saved_bytes = tokens * ((qkv_.in() + 2 * queries + 2 * keys) * element + heads_ * 4);
  return cost;
}

}  // namespace hippodrome
