#include "architectures/recurrent/gru/gru.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/gru.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <vector>

#include "architectures/recurrent/gru_scan/gru_scan.h"

namespace hippodrome {

void Gru::Config::bind(Fields& fields) {
  fields.integer("hidden", hidden, {0, 1 << 20},
                 "hidden width, projected back to the model's; 0: the model's, not projected");
  fields.choice("kernel", kernel, {"fused", "library", "reference"},
                "the project's recurrence, LibTorch's gru, or plain loops");
}

Gru::Gru(const Config& config, const Site& site)
    : config_(config),
      hidden_(config.hidden > 0 ? config.hidden : site.output_width),
      input_(site.width, 3 * hidden_,
             {.bias = true,
              .weight = initialise::uniform_fan_in(hidden_),
              .bias_initialiser = initialise::uniform_fan_in(hidden_)}) {
  input_bias_ = input_.parameters().find("bias");
  parameters_.adopt("input", input_.parameters());
  weight_hh_ = parameters_.add("weight_hh", {3 * hidden_, hidden_}, initialise::uniform_fan_in(hidden_));
  bias_hn_ = parameters_.add("bias_hn", {hidden_}, initialise::uniform_fan_in(hidden_), {.weight_decay = false});
  if (config.hidden > 0) {
    output_.emplace(hidden_, site.output_width);
    parameters_.adopt("output", output_->parameters());
  }
}

State Gru::initial_state(const StateSpec& spec) const {
  State state;
  state.declare("h", StateKind::kPerRow, at::zeros({spec.rows, hidden_}, spec.recurrent()));
  return state;
}

Tensor Gru::forward(const Tensor& x, const Context& context, State* state) {
  Tensor y;
  if (config_.kernel == "library") {
    y = forward_library(x, state);
  } else {
    auto [hidden, h] = gru_scan(input_.forward(x), weight_hh_->cast(x), bias_hn_->cast(x),
                                state ? OptionalTensor(state->get("h")) : std::nullopt, context.op_positions(),
                                /*reference=*/config_.kernel == "reference");
    y = hidden;
    if (state) state->put("h", h);
  }
  return output_ ? output_->forward(y) : y;
}

Tensor Gru::forward_library(const Tensor& x, State* state) const {
  const auto options = x.options();
  const Tensor h0 =
      state ? state->get("h").to(x.scalar_type()).unsqueeze(0) : at::zeros({1, x.size(0), hidden_}, options);
  const std::vector<Tensor> weights = {input_.weight()->cast(x), weight_hh_->cast(x), input_bias_->cast(x),
                                       at::cat({at::zeros({2 * hidden_}, options), bias_hn_->cast(x)})};
  auto [y, h] = at::gru(x, h0, weights, /*has_biases=*/true, /*num_layers=*/1, /*dropout=*/0.0,
                        /*train=*/at::GradMode::is_enabled(),
                        /*bidirectional=*/false, /*batch_first=*/true);
  if (state) state->put("h", h.squeeze(0).to(x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat));
  return y;
}

Traits Gru::traits() const {
  const bool library = config_.kernel == "library";
  return {.causal = true,
          .packs = !library,
          .state_growth = StateGrowth::kConstant,
          .kernel_class = library                         ? KernelClass::kLibrary
                          : config_.kernel == "reference" ? KernelClass::kReference
                                                          : KernelClass::kFused};
}

Cost Gru::cost(const Workload& workload) const {
  const int64_t tokens = workload.rows * workload.length, H = hidden_;
  const auto t = static_cast<double>(tokens);
  // Per hidden unit beside the products: two sums, each through a sigmoid of exponential, sum and quotient, one sum for
  // q, three operations for n and four for h, one each.
  constexpr double kGates = 16.0;
  Cost cost;
  cost.flops = input_.flops(t) + t * static_cast<double>(H) * (6.0 * static_cast<double>(H) + kGates) +
               (output_ ? output_->flops(t) : 0.0);
  const int64_t state_element = std::max<int64_t>(4, workload.element_size);  // float32 or wider
  cost.state_bytes = workload.rows * H * state_element;
  const int64_t out = output_ ? H + output_->out() : 0;
  cost.bytes_moved = static_cast<double>(
      (tokens * (input_.in() + 7 * H + out) + parameters_.count()) * workload.element_size + 2 * cost.state_bytes);
  // x, the gates and the recurrent product after their activations, and the output.
  cost.saved_bytes = tokens * (input_.in() + 6 * H) * workload.element_size;
  return cost;
}

}  // namespace hippodrome
