#include "architectures/recurrent/gru/gru.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/gru.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <vector>

#include "architectures/recurrent/attentive_scan/attentive_scan.h"
#include "architectures/recurrent/attentive_scan/flops.h"
#include "architectures/recurrent/gru_scan/gru_scan.h"
#include "architectures/recurrent/orthogonal_gates.h"

namespace hippodrome {

void Gru::Config::bind(Fields& fields) {
  fields.integer("hidden", hidden, {0, 1 << 20},
                 "hidden width, projected back to the model's; 0: the model's, not projected");
  fields.choice("reset", reset, {"after", "before"},
                "where the reset gate acts: after the recurrent product (cuDNN), or before it (Cho et al. 2014)");
  fields.flag("bias", bias, "a bias of every gate");
  fields.choice("init", init, {"default", "bahdanau"},
                "U(±1/√H); or recurrent weights orthogonal and all others N(0, 0.01), biases 0");
  fields.choice("kernel", kernel, {"fused", "library", "reference"},
                "the project's recurrence, LibTorch's gru, or plain loops");
}

absl::Status Gru::check(const Config& config, const Site&) {
  if (config.reset == "before" && config.kernel == "library") {
    return absl::InvalidArgumentError(
        "kernel = \"library\" has the reset gate after the recurrent product: set reset = \"after\"");
  }
  return absl::OkStatus();
}

Gru::Gru(const Config& config, const Site& site)
    : config_(config),
      hidden_(config.hidden > 0 ? config.hidden : site.output_width),
      input_(site.width, 3 * hidden_,
             {.bias = config.bias,
              .weight = config.init == "bahdanau" ? initialise::normal(0.01) : initialise::uniform_fan_in(hidden_),
              .bias_initialiser =
                  config.init == "bahdanau" ? initialise::constant(0.0) : initialise::uniform_fan_in(hidden_)}) {
  const bool bahdanau = config.init == "bahdanau";
  input_bias_ = input_.parameters().find("bias");
  parameters_.adopt("input", input_.parameters());
  weight_hh_ = parameters_.add("weight_hh", {3 * hidden_, hidden_},
                               bahdanau ? orthogonal_gates(3, hidden_) : initialise::uniform_fan_in(hidden_));
  if (config.bias && config.reset == "after") {
    bias_hn_ = parameters_.add("bias_hn", {hidden_},
                               bahdanau ? initialise::constant(0.0) : initialise::uniform_fan_in(hidden_),
                               {.weight_decay = false});
  }
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
    const OptionalTensor h0 = state ? OptionalTensor(state->get("h")) : std::nullopt;
    const Tensor bias = bias_hn_ ? bias_hn_->cast(x) : at::zeros({hidden_}, x.options());
    auto [hidden, h] = config_.reset == "before"
                           ? reset_before(x, context, h0)
                           : gru_scan(input_.forward(x), weight_hh_->cast(x), bias, h0, context.op_positions(),
                                      /*reference=*/config_.kernel == "reference");
    y = hidden;
    if (state) state->put("h", h);
  }
  return output_ ? output_->forward(y) : y;
}

std::tuple<Tensor, Tensor> Gru::reset_before(const Tensor& x, const Context& context, const OptionalTensor& h0) const {
  // A memory of one token of one number, which is zero.
  const Tensor nothing = at::zeros({x.size(0), 1, 1}, x.options()), none = at::zeros({1}, x.options());
  auto [y, contexts, h, cell] = attentive_scan({.cell = "gru",
                                                .gates = input_.forward(x),
                                                .weight_hh = weight_hh_->cast(x),
                                                .weight_c = at::zeros({3 * hidden_, 1}, x.options()),
                                                .weight_q = at::zeros({1, hidden_}, x.options()),
                                                .keys = nothing,
                                                .v = none,
                                                .values = nothing,
                                                .s0 = h0,
                                                .positions = context.op_positions()},
                                               /*reference=*/config_.kernel == "reference");
  return {y, h};
}

Tensor Gru::forward_library(const Tensor& x, State* state) const {
  const auto options = x.options();
  const Tensor h0 =
      state ? state->get("h").to(x.scalar_type()).unsqueeze(0) : at::zeros({1, x.size(0), hidden_}, options);
  const Tensor input_bias = input_bias_ ? input_bias_->cast(x) : at::zeros({3 * hidden_}, options);
  const Tensor bias_hn = bias_hn_ ? bias_hn_->cast(x) : at::zeros({hidden_}, options);
  const std::vector<Tensor> weights = {input_.weight()->cast(x), weight_hh_->cast(x), input_bias,
                                       at::cat({at::zeros({2 * hidden_}, options), bias_hn})};
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
  cost.flops = input_.flops(t) + (output_ ? output_->flops(t) : 0.0);
  cost.flops += config_.reset == "before"
                    ? attentive_scan_flops(/*lstm=*/false, t, H, /*keys=*/1, /*features=*/1, /*width=*/1)
                    : t * static_cast<double>(H) * (6.0 * static_cast<double>(H) + kGates);
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
