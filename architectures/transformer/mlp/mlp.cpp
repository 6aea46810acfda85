#include "architectures/transformer/mlp/mlp.h"

#include <ATen/ops/gelu.h>
#include <ATen/ops/relu.h>

#include <cmath>

#include "architectures/transformer/swiglu/swiglu.h"

namespace hippodrome {
namespace mlp_detail {
namespace {

// A whisker below, so that 8/3 of a multiple of three is not rounded past itself.
int64_t expanded(double expansion, int64_t width) {
  return static_cast<int64_t>(std::ceil(expansion * static_cast<double>(width) - 1e-9));
}

int64_t hidden_width(const Mlp::Config& config, int64_t width) {
  if (config.hidden > 0) return config.hidden;
  if (config.activation == "swiglu") return swiglu_width(config.expansion, config.multiple, width);
  return expanded(config.expansion > 0.0 ? config.expansion : 4.0, width);
}

Linear::Options options(const Mlp::Config& config, double deviation) {
  Linear::Options options{.bias = config.bias};
  if (config.init == "gpt2") {
    options.weight = initialise::normal(deviation);
    options.bias_initialiser = initialise::constant(0.0);
  }
  return options;
}

}  // namespace
}  // namespace mlp_detail

int64_t swiglu_width(double expansion, int64_t multiple, int64_t width) {
  const int64_t hidden = mlp_detail::expanded(expansion > 0.0 ? expansion : 8.0 / 3.0, width);
  return (hidden + multiple - 1) / multiple * multiple;
}

void Mlp::Config::bind(Fields& fields) {
  fields.choice("activation", activation, {"relu", "gelu", "gelu_tanh", "swiglu"}, "non-linearity; swiglu has a gate");
  fields.number("expansion", expansion, {0.0, 64.0}, "hidden width over the model's; 0: 4, and 8/3 for swiglu");
  fields.integer("multiple", multiple, {1, 1 << 16}, "swiglu's hidden width is rounded up to a multiple of this");
  fields.integer("hidden", hidden, {0, 1 << 24}, "hidden width itself; 0: from expansion");
  fields.flag("bias", bias, "biases of both projections");
  fields.choice("init", init, {"default", "gpt2"},
                "default: U(±1/√fan-in); gpt2: N(0, 0.02), output 0.02/√blocks, biases 0");
}

Mlp::Mlp(const Config& config, const Site& site)
    : config_(config),
      up_(site.width, mlp_detail::hidden_width(config, site.width) * (config.activation == "swiglu" ? 2 : 1),
          mlp_detail::options(config, 0.02)),
      down_(mlp_detail::hidden_width(config, site.width), site.output_width,
            mlp_detail::options(config, 0.02 / std::sqrt(static_cast<double>(site.blocks)))) {
  parameters_.adopt("up", up_.parameters());
  parameters_.adopt("down", down_.parameters());
}

Tensor Mlp::forward(const Tensor& x, const Context&, State*) {
  const Tensor h = up_.forward(x);
  if (config_.activation == "relu") return down_.forward(at::relu(h));
  if (config_.activation == "gelu") return down_.forward(at::gelu(h));
  if (config_.activation == "gelu_tanh") return down_.forward(at::gelu(h, "tanh"));
  return down_.forward(swiglu(h));
}

Traits Mlp::traits() const {
  return {.causal = true, .packs = true, .state_growth = StateGrowth::kNone, .kernel_class = KernelClass::kLibrary};
}

Cost Mlp::cost(const Workload& workload) const {
  const auto tokens = static_cast<double>(workload.rows * workload.length);
  const int64_t in = up_.in(), wide = up_.out(), hidden = down_.in(), out = down_.out();
  const double elements = tokens * static_cast<double>(in + 2 * wide + 2 * hidden + out);
  const auto weights = static_cast<double>(parameters_.count());
  Cost cost;
  cost.flops = up_.flops(tokens) + down_.flops(tokens);
  cost.bytes_moved = (elements + weights) * static_cast<double>(workload.element_size);
  // x, the hidden layer before and after its activation.
  const int64_t kept = in + wide + hidden;
  cost.saved_bytes = workload.rows * workload.length * kept * workload.element_size;
  return cost;
}

}  // namespace hippodrome
