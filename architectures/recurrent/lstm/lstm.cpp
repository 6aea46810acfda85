#include "architectures/recurrent/lstm/lstm.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/lstm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <vector>

#include "architectures/recurrent/lstm_scan/lstm_scan.h"

namespace hippodrome {
namespace lstm_detail {
namespace {

Initialiser weights(const Lstm::Config& config, int64_t hidden) {
  return config.init_range > 0.0 ? initialise::uniform(-config.init_range, config.init_range)
                                 : initialise::uniform_fan_in(hidden);
}

}  // namespace
}  // namespace lstm_detail

void Lstm::Config::bind(Fields& fields) {
  fields.integer("hidden", hidden, {0, 1 << 20},
                 "hidden width, projected back to the model's; 0: the model's, not projected");
  fields.number("forget_bias", forget_bias, {-100.0, 100.0}, "added to the forget gates' initial bias");
  fields.flag("bias", bias, "a bias of every gate");
  fields.number("init_range", init_range, {0.0, 100.0}, "weights are drawn from U(± this); 0: U(±1/√H)");
  fields.choice("kernel", kernel, {"fused", "library", "reference"},
                "the project's recurrence, LibTorch's lstm, or plain loops");
}

Lstm::Lstm(const Config& config, const Site& site)
    : config_(config),
      hidden_(config.hidden > 0 ? config.hidden : site.output_width),
      input_(site.width, 4 * hidden_,
             {.bias = config.bias,
              .weight = lstm_detail::weights(config, hidden_),
              .bias_initialiser = [inner = lstm_detail::weights(config, hidden_), H = hidden_,
                                   forget_bias = config.forget_bias](Tensor& value, RandomStream stream) {
                inner(value, stream);
                value.narrow(0, H, H).add_(forget_bias);
              }}) {
  input_bias_ = input_.parameters().find("bias");
  parameters_.adopt("input", input_.parameters());
  weight_hh_ = parameters_.add("weight_hh", {4 * hidden_, hidden_}, lstm_detail::weights(config, hidden_));
  if (config.hidden > 0) {
    output_.emplace(hidden_, site.output_width);
    parameters_.adopt("output", output_->parameters());
  }
}

State Lstm::initial_state(const StateSpec& spec) const {
  State state;
  for (const char* name : {"h", "c"}) {
    state.declare(name, StateKind::kPerRow, at::zeros({spec.rows, hidden_}, spec.recurrent()));
  }
  return state;
}

Tensor Lstm::forward(const Tensor& x, const Context& context, State* state) {
  Tensor y;
  if (config_.kernel == "library") {
    y = forward_library(x, state);
  } else {
    OptionalTensor h0, c0;
    if (state) {
      h0 = state->get("h");
      c0 = state->get("c");
    }
    auto [hidden, h, c] = lstm_scan(input_.forward(x), weight_hh_->cast(x), h0, c0, context.op_positions(),
                                    /*reference=*/config_.kernel == "reference");
    y = hidden;
    if (state) {
      state->put("h", h);
      state->put("c", c);
    }
  }
  return output_ ? output_->forward(y) : y;
}

Tensor Lstm::forward_library(const Tensor& x, State* state) const {
  const auto options = x.options();
  const Tensor zero = at::zeros({1, x.size(0), hidden_}, options);
  const auto carried = [&](const char* name) {
    return state ? state->get(name).to(x.scalar_type()).unsqueeze(0) : zero;
  };
  // LibTorch's lstm has a second bias, beside the recurrent product.
  const Tensor no_bias = at::zeros({4 * hidden_}, options);
  const std::vector<Tensor> weights = {input_.weight()->cast(x), weight_hh_->cast(x),
                                       input_bias_ ? input_bias_->cast(x) : no_bias, no_bias};
  auto [y, h, c] =
      at::lstm(x, {carried("h"), carried("c")}, weights, /*has_biases=*/true, /*num_layers=*/1, /*dropout=*/0.0,
               /*train=*/at::GradMode::is_enabled(), /*bidirectional=*/false, /*batch_first=*/true);
  if (state) {
    const auto wide = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    state->put("h", h.squeeze(0).to(wide));
    state->put("c", c.squeeze(0).to(wide));
  }
  return y;
}

Traits Lstm::traits() const {
  const bool library = config_.kernel == "library";
  return {.causal = true,
          .packs = !library,
          .state_growth = StateGrowth::kConstant,
          .kernel_class = library                         ? KernelClass::kLibrary
                          : config_.kernel == "reference" ? KernelClass::kReference
                                                          : KernelClass::kFused};
}

Cost Lstm::cost(const Workload& workload) const {
  const int64_t tokens = workload.rows * workload.length, H = hidden_;
  const auto t = static_cast<double>(tokens);
  // Per hidden unit beside the products: three sigmoids of exponential, sum and quotient, two tanh, three operations
  // for the cell and one for the output, one each.
  constexpr double kGates = 15.0;
  Cost cost;
  cost.flops = input_.flops(t) + t * static_cast<double>(H) * (8.0 * static_cast<double>(H) + kGates) +
               (output_ ? output_->flops(t) : 0.0);
  const int64_t state_element = std::max<int64_t>(4, workload.element_size);  // float32 or wider
  cost.state_bytes = workload.rows * 2 * H * state_element;
  const int64_t out = output_ ? H + output_->out() : 0;
  cost.bytes_moved = static_cast<double>(
      (tokens * (input_.in() + 9 * H + out) + parameters_.count()) * workload.element_size + 2 * cost.state_bytes);
  // x, the four gates after their activations, the cell and the output.
  cost.saved_bytes = tokens * (input_.in() + 6 * H) * workload.element_size;
  return cost;
}

}  // namespace hippodrome
