#include "architectures/mixture/moe/moe.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>

#include "architectures/mixture/moe/grouping.h"
#include "architectures/transformer/mlp/mlp.h"
#include "architectures/transformer/swiglu/swiglu.h"
#include "core/tensor/at_least_float32.h"

namespace hippodrome {
namespace moe_detail {
namespace {

int64_t hidden_width(const Moe::Config& config, int64_t width) {
  return config.hidden > 0 ? config.hidden : swiglu_width(config.expansion, config.multiple, width);
}

Initialiser weights(const Moe::Config& config, double deviation) {
  return config.init == "gpt2" ? initialise::normal(deviation) : nullptr;
}

// silu(gate) ∘ value of [T, 2F] -> [T, F], in plain operators.
Tensor gated(const Tensor& gate_and_value) {
  const auto halves = gate_and_value.chunk(2, -1);
  return at::silu(halves[0]).mul(halves[1]);
}

}  // namespace
}  // namespace moe_detail

void Moe::Config::bind(Fields& fields) {
  fields.integer("experts", experts, {1, 1 << 16}, "experts n");
  fields.integer("top_k", top_k, {1, 1 << 16}, "experts that each token goes to, K");
  fields.integer("hidden", hidden, {0, 1 << 24}, "hidden width of one expert; 0: from expansion");
  fields.number("expansion", expansion, {0.0, 64.0}, "hidden width over the model's; 0: 8/3");
  fields.integer("multiple", multiple, {1, 1 << 16},
                 "a hidden width from expansion is rounded up to a multiple of this");
  fields.choice("router", router, {"mixtral", "jamba"},
                "mixtral: softmax over the chosen logits; jamba: over all, without renormalisation");
  fields.number("balance_loss", balance_loss, {0.0, 1e3}, "weight of the load-balancing loss in training; 0: none");
  fields.choice("init", init, {"default", "gpt2"}, "default: U(±1/√fan-in); gpt2: N(0, 0.02), output 0.02/√blocks");
  fields.choice("kernel", kernel, {"library", "reference"},
                "LibTorch's products on tokens grouped by expert, or token by token");
}

absl::Status Moe::check(const Config& config, const Site&) {
  if (config.top_k > config.experts) {
    return absl::InvalidArgumentError("top_k = " + std::to_string(config.top_k) + " is more than experts = " +
                                      std::to_string(config.experts) + ": a token goes to each expert once at most");
  }
  return absl::OkStatus();
}

Moe::Moe(const Config& config, const Site& site)
    : config_(config),
      name_(site.name),
      router_(site.width, config.experts,
              {.weight = moe_detail::weights(config, 0.02), .weight_facts = {.keep_float32 = true}}),
      up_(config.experts, site.width, 2 * moe_detail::hidden_width(config, site.width),
          moe_detail::weights(config, 0.02)),
      down_(config.experts, moe_detail::hidden_width(config, site.width), site.output_width,
            moe_detail::weights(config, 0.02 / std::sqrt(static_cast<double>(site.blocks)))) {
  parameters_.adopt("router", router_.parameters());
  parameters_.adopt("experts.up", up_.parameters());
  parameters_.adopt("experts.down", down_.parameters());
}

Tensor Moe::forward(const Tensor& x, const Context& context, State*) {
  const Tensor all = x.reshape({-1, x.size(2)});
  // Only tokens are routed: padding would count in the balance, and cost as much as they do.
  const Tensor kept = context.ragged ? at::nonzero(context.positions.flatten().ge(0)).flatten() : Tensor();
  const Tensor tokens = kept.defined() ? all.index_select(0, kept) : all;
  const Tensor logits = router_.forward(tokens.to(at_least_float32(x.scalar_type())));
  const Routing routing = route(logits, config_.top_k, config_.router == "jamba" ? Router::kJamba : Router::kMixtral);
  if (context.observer && tokens.size(0) > 0) {
    context.observer->report(name_, "router_load", router_load(logits, routing.experts));
    context.observer->auxiliary_loss(name_, "balance_loss", balance_loss(logits, routing.experts),
                                     config_.balance_loss);
  }
  Tensor y = config_.kernel == "reference" ? mix_reference(tokens, routing) : mix(tokens, routing);
  if (kept.defined()) y = at::zeros({all.size(0), down_.out()}, y.options()).index_copy(0, kept, y);
  return y.view({x.size(0), x.size(1), down_.out()});
}

Tensor Moe::mix(const Tensor& x, const Routing& routing) const {
  const Grouping grouping = group_by_expert(routing.experts, config_.experts);
  const Tensor hidden = swiglu(up_.forward(dispatch(x, grouping), grouping.counts));
  return combine(down_.forward(hidden, grouping.counts), routing.weights, grouping);
}

Tensor Moe::mix_reference(const Tensor& x, const Routing& routing) const {
  const auto up = up_.weight()->cast(x).unbind(0), down = down_.weight()->cast(x).unbind(0);
  const Tensor experts = routing.experts.to(at::kCPU), weights = routing.weights.to(x.scalar_type());
  std::vector<Tensor> outputs = {at::zeros({0, down_.out()}, x.options())};
  for (int64_t t = 0; t < x.size(0); ++t) {
    const Tensor token = x.narrow(0, t, 1);
    Tensor y;
    for (int64_t k = 0; k < config_.top_k; ++k) {
      const auto expert = static_cast<size_t>(experts[t][k].item().toLong());
      const Tensor part = at::linear(moe_detail::gated(at::linear(token, up[expert])), down[expert]);
      const Tensor weighted = part.mul(weights[t][k]);
      y = y.defined() ? y.add(weighted) : weighted;
    }
    outputs.push_back(y);
  }
  return at::cat(outputs);
}

Traits Moe::traits() const {
  return {.causal = true,
          .packs = true,
          .state_growth = StateGrowth::kNone,
          .kernel_class = config_.kernel == "reference" ? KernelClass::kReference : KernelClass::kLibrary,
          .reads_on_host = true};
}

int64_t Moe::active_parameters() const { return router_.in() * router_.out() + config_.top_k * expert_parameters(); }

Cost Moe::cost(const Workload& workload) const {
  const int64_t tokens = workload.rows * workload.length, slots = tokens * config_.top_k;
  const int64_t in = router_.in(), hidden = down_.in(), out = down_.out(), n = config_.experts;
  Cost cost;
  cost.flops = router_.flops(static_cast<double>(tokens)) + up_.flops(static_cast<double>(slots)) +
               down_.flops(static_cast<double>(slots));
  // Few tokens meet few experts, whose weights alone are read.
  const int64_t weights = in * n + std::min(slots, n) * expert_parameters();
  const int64_t elements = tokens * (in + n + out) + slots * (2 * in + 6 * hidden + 3 * out);
  cost.bytes_moved = static_cast<double>((elements + weights) * workload.element_size);
  // x and the logits; per slot its copy of x, gate and value, their gated product, and the expert's output.
  cost.saved_bytes = (tokens * (in + n) + slots * (in + 3 * hidden + out)) * workload.element_size;
  return cost;
}

}  // namespace hippodrome
