#include "architectures/transformer/cross_attention/cross_attention.h"

#include <ATen/ops/matmul.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include <cmath>
#include <limits>

#include "architectures/recurrent/additive_attention/additive_attention.h"
#include "architectures/recurrent/attentive_scan/flops.h"

namespace hippodrome {
namespace cross_attention_detail {
namespace {

int64_t head_size(const CrossAttention::Config& config, const Site& site) {
  return config.head_size > 0 ? config.head_size : (site.width + config.heads - 1) / config.heads;
}

int64_t query_width(const CrossAttention::Config& config, const Site& site) {
  if (config.scoring == "additive") return config.alignment > 0 ? config.alignment : site.width;
  return config.heads * head_size(config, site);
}

}  // namespace
}  // namespace cross_attention_detail

void CrossAttention::Config::bind(Fields& fields) {
  fields.choice("scoring", scoring, {"dot", "additive"}, "scaled dot products of heads, or vᵀ tanh(W x + U h)");
  fields.integer("heads", heads, {1, 4096}, "of dot: heads H");
  fields.integer("head_size", head_size, {0, 4096}, "of dot: width of a head; 0: width / heads, rounded up");
  fields.integer("alignment", alignment, {0, 1 << 20}, "of additive: hidden width A of the score; 0: the model's");
  fields.choice("kernel", kernel, {"fused", "reference"},
                "dot: LibTorch's scaled_dot_product_attention, additive: the project's; or plain forms of both");
}

CrossAttention::CrossAttention(const Config& config, const Site& site)
    : config_(config),
      name_(site.name),
      heads_(config.scoring == "additive" ? 1 : config.heads),
      head_size_(cross_attention_detail::head_size(config, site)),
      memory_width_(site.memory_width),
      query_(site.width, cross_attention_detail::query_width(config, site)),
      memory_(site.memory_width, (config.scoring == "additive" ? 1 : 2) * query_.out()),
      out_(config.scoring == "additive" ? site.memory_width : query_.out(), site.output_width) {
  parameters_.adopt("query", query_.parameters());
  parameters_.adopt("memory", memory_.parameters());
  if (additive()) score_ = parameters_.add("score", {query_.out()}, initialise::uniform_fan_in(query_.out()));
  parameters_.adopt("out", out_.parameters());
}

SourceMemory CrossAttention::project(const Memory& memory) const {
  if (additive()) return SourceMemory::read(memory, memory_);
  const Tensor heads = memory_.forward(memory.values)
                           .view({memory.rows(), memory.length(), 2, heads_, head_size_})
                           .permute({2, 0, 3, 1, 4});
  return {heads[0].contiguous(), heads[1].contiguous(), memory.ragged ? memory.positions : Tensor()};
}

State CrossAttention::initial_state(const StateSpec& spec) const {
  TORCH_CHECK(spec.memory, "cross attention has no state without an encoder's output");
  State state;
  project(*spec.memory).declare(state);
  return state;
}

Tensor CrossAttention::forward(const Tensor& x, const Context& context, State* state) {
  const int64_t rows = x.size(0), length = x.size(1);
  TORCH_CHECK(state || context.memory, "cross attention needs an encoder's output");
  const SourceMemory source = state ? SourceMemory::from(*state) : project(*context.memory);
  const int64_t sources = rows / source.rows_per_source, queries = source.rows_per_source * length;
  const Tensor in = without_padding(x, context);
  // The hypotheses on one source are queries of one row.
  const Tensor q = query_.forward(in).view({sources, queries, query_.out()});
  // All weights take L × S memory. Training always has an observer, which looks for losses.
  if (context.observer && !context.training) {
    const Tensor all = weights(q, source).view({sources, heads_, source.rows_per_source, length, -1});
    context.observer->report(name_, "source_attention", all.transpose(1, 2).flatten(0, 1));
  }
  return out_.forward(attend(q, source).view({rows, length, out_.in()}));
}

Tensor CrossAttention::attend(const Tensor& q, const SourceMemory& source) const {
  const int64_t sources = q.size(0), queries = q.size(1);
  const bool reference = config_.kernel == "reference";
  if (additive()) {
    return std::get<0>(
        additive_attention(q, source.keys, score_->cast(q), source.values, source.op_positions(), reference));
  }
  if (reference) {
    const Tensor y = at::matmul(weights(q, source).to(q.scalar_type()), source.values);
    return y.transpose(1, 2).reshape({sources, queries, heads_ * head_size_});
  }
  OptionalTensor mask;
  if (source.positions.defined()) mask = source.positions.ge(0).view({sources, 1, 1, -1});
  const Tensor heads = q.view({sources, queries, heads_, head_size_}).transpose(1, 2);
  return at::scaled_dot_product_attention(heads, source.keys, source.values, mask)
      .transpose(1, 2)
      .reshape({sources, queries, heads_ * head_size_});
}

Tensor CrossAttention::weights(const Tensor& q, const SourceMemory& source) const {
  if (additive()) {
    return additive_attention_weights(q, source.keys, score_->cast(q), source.op_positions()).unsqueeze(1);
  }
  const auto wide = q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const Tensor heads = q.view({q.size(0), q.size(1), heads_, head_size_}).transpose(1, 2);
  Tensor scores = at::matmul(heads.to(wide), source.keys.to(wide).transpose(-1, -2));
  scores = scores.mul(1.0 / std::sqrt(static_cast<double>(head_size_)));
  if (source.positions.defined()) {
    scores = scores.masked_fill(source.positions.lt(0).view({q.size(0), 1, 1, -1}),
                                -std::numeric_limits<double>::infinity());
  }
  return scores.softmax(-1);
}

Traits CrossAttention::traits() const {
  return {.causal = true,
          .packs = true,
          .state_growth = StateGrowth::kConstant,
          .kernel_class = config_.kernel == "reference" ? KernelClass::kReference
                          : additive()                  ? KernelClass::kFused
                                                        : KernelClass::kLibrary,
          .needs_memory = true};
}

Cost CrossAttention::cost(const Workload& workload) const {
  const auto element = workload.element_size;
  const int64_t tokens = workload.rows * workload.length, source = workload.rows * workload.memory_length;
  const int64_t kept = memory_.out() + (additive() ? memory_width_ : 0);  // numbers a source token
  const double pairs = static_cast<double>(tokens) * static_cast<double>(workload.memory_length);
  Cost cost;
  cost.flops = query_.flops(static_cast<double>(tokens)) + out_.flops(static_cast<double>(tokens));
  // The memory is read once a source.
  if (workload.context == 0) cost.flops += memory_.flops(static_cast<double>(source));
  cost.flops += additive() ? additive_attention_flops(pairs, static_cast<double>(tokens), query_.out(), memory_width_)
                           : pairs * 4.0 * static_cast<double>(query_.out());
  cost.state_bytes = source * kept * element + source * 8;  // and the positions
  cost.bytes_moved = static_cast<double>((parameters_.count() +
                                          tokens * (query_.in() + 2 * query_.out() + 2 * out_.in() + out_.out()) +
                                          source * (memory_width_ + 2 * kept)) *
                                         element);
  // x, the queries and their results, softmax's logarithms of sums in float32; the memory, its keys and values.
  cost.saved_bytes = tokens * ((query_.in() + query_.out() + out_.in()) * element + heads_ * 4) +
                     source * (memory_width_ + kept) * element;
  return cost;
}

}  // namespace hippodrome
