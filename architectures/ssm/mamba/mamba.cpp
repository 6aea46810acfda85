#include "architectures/ssm/mamba/mamba.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "architectures/ssm/carried_convolution.h"
#include "architectures/ssm/scan_step/scan_step.h"
#include "architectures/ssm/selective_scan/selective_scan.h"
#include "architectures/ssm/step_size.h"

namespace hippodrome {
namespace mamba_detail {
namespace {

int64_t inner_width(const Mamba::Config& config, int64_t width) {
  return static_cast<int64_t>(std::llround(config.expand * static_cast<double>(width)));
}

int64_t dt_rank(const Mamba::Config& config, int64_t width) {
  return config.dt_rank > 0 ? config.dt_rank : (width + 15) / 16;
}

}  // namespace
}  // namespace mamba_detail

void Mamba::Config::bind(Fields& fields) {
  fields.integer("state", state, {1, 256}, "states per channel N");
  fields.integer("conv", conv, {1, 16}, "taps of the causal convolution K");
  fields.number("expand", expand, {0.0, 64.0}, "inner width over the model's");
  fields.integer("dt_rank", dt_rank, {0, 1 << 16}, "rank of the step size's projection; 0: width / 16, rounded up");
  fields.flag("complex", complex, "complex A, B, C and state; N then counts complex numbers");
  fields.choice("discretisation", discretisation, {"euler", "zoh"},
                "of B: Euler's rule as every implementation, or zero-order hold as the paper");
  fields.integer("groups", groups, {1, 1 << 16}, "groups of channels G, each with a B and C of its own");
  fields.number("dt_min", dt_min, {1e-12, 1e3}, "smallest initial step size");
  fields.number("dt_max", dt_max, {1e-12, 1e3}, "largest initial step size");
  fields.number("dt_floor", dt_floor, {1e-12, 1e3}, "initial step sizes are at least this");
  fields.flag("conv_bias", conv_bias, "bias of the convolution");
  fields.flag("bias", bias, "biases of the input and output projections");
  fields.flag("inner_norms", inner_norms, "RMSNorm of the step size's input, B and C, as Jamba");
  fields.number("inner_norm_epsilon", inner_norm_epsilon, {0.0, 1.0}, "added to their mean squares");
  fields.choice("kernel", kernel, {"fused", "reference"}, "the project's scan and convolution, or their plain loops");
}

absl::Status Mamba::check(const Config& config, const Site& site) {
  if (mamba_detail::inner_width(config, site.width) < 1) {
    return absl::InvalidArgumentError("expand = " + std::to_string(config.expand) + " leaves no inner width");
  }
  if (const int64_t inner = mamba_detail::inner_width(config, site.width); inner % config.groups != 0) {
    return absl::InvalidArgumentError("the inner width " + std::to_string(inner) +
                                      " does not divide into groups = " + std::to_string(config.groups));
  }
  if (config.complex && config.state > 128) {
    return absl::InvalidArgumentError("state must be at most 128 complex numbers, not " + std::to_string(config.state));
  }
  if (config.dt_min > config.dt_max) {
    return absl::InvalidArgumentError("dt_min must not exceed dt_max");
  }
  return absl::OkStatus();
}

Mamba::Mamba(const Config& config, const Site& site)
    : config_(config),
      inner_(mamba_detail::inner_width(config, site.width)),
      states_(config.complex ? 2 * config.state : config.state),
      dt_rank_(mamba_detail::dt_rank(config, site.width)),
      in_proj_(site.width, 2 * inner_, {.bias = config.bias}),
      x_proj_(inner_, dt_rank_ + 2 * config.groups * states_),
      dt_proj_(dt_rank_, inner_),
      out_proj_(inner_, site.output_width,
                {.bias = config.bias,
                 .weight = initialise::scaled(initialise::uniform_fan_in(inner_),
                                              1.0 / std::sqrt(static_cast<double>(site.blocks)))}) {
  const ParameterFacts no_decay{.weight_decay = false}, sensitive{.weight_decay = false, .keep_float32 = true};
  parameters_.adopt("in_proj", in_proj_.parameters());
  conv_weight_ = parameters_.add("conv1d.weight", {inner_, config.conv}, initialise::uniform_fan_in(config.conv));
  if (config.conv_bias) {
    conv_bias_ = parameters_.add("conv1d.bias", {inner_}, initialise::uniform_fan_in(config.conv), no_decay);
  }
  parameters_.adopt("x_proj", x_proj_.parameters());
  if (config.inner_norms) {
    const auto add_norm = [&](const char* name, std::optional<Norm>& norm, int64_t width) {
      parameters_.adopt(name, norm.emplace(Norm::Kind::kRmsNorm, width, config.inner_norm_epsilon).parameters());
    };
    add_norm("dt_norm", dt_norm_, dt_rank_);
    add_norm("B_norm", B_norm_, states_);
    add_norm("C_norm", C_norm_, states_);
  }
  parameters_.adopt("dt_proj", dt_proj_.parameters());
  dt_bias_ = parameters_.add("dt_proj.bias", {inner_},
                             inverse_softplus_of_log_uniform(config.dt_min, config.dt_max, config.dt_floor), sensitive);
  // Real: S4D-Real, ln(1..N). Complex: S4D-Lin, -1/2 + iπn.
  A_log_ = parameters_.add("A_log", {inner_, config.state},
                           initialise::from_index([states = config.state, complex = config.complex](int64_t i) {
                             return complex ? std::log(0.5) : std::log(static_cast<double>(i % states + 1));
                           }),
                           sensitive);
  if (config.complex) {
    A_imaginary_ = parameters_.add("A_imaginary", {inner_, config.state},
                                   initialise::from_index([states = config.state](int64_t i) {
                                     return std::numbers::pi * static_cast<double>(i % states);
                                   }),
                                   sensitive);
  }
  D_ = parameters_.add("D", {inner_}, initialise::constant(1.0), sensitive);
  parameters_.adopt("out_proj", out_proj_.parameters());
}

State Mamba::initial_state(const StateSpec& spec) const {
  State state;
  state.declare("conv", StateKind::kPerRow, at::zeros({spec.rows, inner_, config_.conv - 1}, spec.recurrent()));
  state.declare("ssm", StateKind::kPerRow, at::zeros({spec.rows, inner_, states_}, spec.recurrent()));
  return state;
}

Tensor Mamba::decay(const Tensor& x) {
  const Tensor real = A_.get({A_log_->value}, x.scalar_type(), [&] { return A_log_->cast(x).exp().neg(); });
  return A_imaginary_ ? at::cat({real, A_imaginary_->cast(x)}, 1) : real;
}

// Everything stays in [B, L, …] memory: [B, d, L] below are transposed views, the fast layout of the operators. Tensors
// are split before they are transposed, so that backward joins their gradients along contiguous rows.
Tensor Mamba::forward(const Tensor& x, const Context& context, State* state) {
  const bool reference = config_.kernel == "reference";
  const OptionalTensor positions = context.op_positions();
  const auto xz = in_proj_.forward(x).split(inner_, -1);
  const Tensor u = carried_convolution(xz[0].transpose(1, 2), conv_weight_, conv_bias_, positions, reference, state);

  const int64_t N = states_, G = config_.groups;
  const auto selection = x_proj_.forward(u.transpose(1, 2)).split_with_sizes({dt_rank_, G * N, G * N}, -1);
  const auto normed = [](const std::optional<Norm>& norm, const Tensor& x) { return norm ? norm->forward(x) : x; };
  // [B, L, G N] -> [B, N, L], or [B, G, N, L].
  const auto grouped = [&](const std::optional<Norm>& norm, const Tensor& x) {
    if (G == 1) return normed(norm, x).transpose(1, 2);
    return normed(norm, x.unflatten(-1, {G, N})).permute({0, 2, 3, 1});
  };
  SelectiveScanArguments scan;
  scan.u = u;
  scan.delta = dt_proj_.forward(normed(dt_norm_, selection[0])).transpose(1, 2);
  scan.A = decay(x);
  scan.B = grouped(B_norm_, selection[1]);
  scan.C = grouped(C_norm_, selection[2]);
  scan.D = D_->cast(x);
  scan.z = xz[1].transpose(1, 2);
  scan.delta_bias = dt_bias_->cast(x);
  scan.delta_softplus = true;
  scan.complex = config_.complex;
  scan.zero_order_hold = config_.discretisation == "zoh";
  scan.positions = positions;
  Tensor y;
  const bool in_place = state && !reference && !at::GradMode::is_enabled();
  if (in_place && x.is_cpu()) {
    y = selective_scan_in_place(scan, state->get("ssm"));
  } else if (in_place && steps_on_gpu(scan)) {
    y = selective_scan_step(scan, state->get("ssm"));
  } else {
    if (state) scan.initial_state = state->get("ssm");
    Tensor last_state;
    std::tie(y, last_state) = reference ? selective_scan_reference(scan) : selective_scan(scan);
    if (state) state->put("ssm", last_state);
  }
  return out_proj_.forward(y.transpose(1, 2));
}

Traits Mamba::traits() const {
  return {.causal = true,
          .packs = true,
          .state_growth = StateGrowth::kConstant,
          .kernel_class = config_.kernel == "reference" ? KernelClass::kReference : KernelClass::kFused};
}

Cost Mamba::cost(const Workload& workload) const {
  const int64_t tokens = workload.rows * workload.length, N = states_, K = config_.conv;
  const auto t = static_cast<double>(tokens);
  // Per token and channel, sums, products, quotients and elementary functions counting one each:
  // convolution: K products and sums, and SiLU's difference, exponential, sum and quotient;
  const auto convolution = static_cast<double>(2 * K + 4);
  // scan: bias 1, softplus 2, skip 2, gate 6; per state the decay's product and exponential, its product with the
  // state, the input's product and sum, the output's product and sum, and Δu 1. Zero-order hold: expm1, a quotient and
  // a product per state in the place of Δu. Complex numbers: as many operations as make up theirs, and 2 Re.
  const bool hold = config_.discretisation == "zoh";
  const int64_t per_state = config_.complex ? (hold ? 46 : 22) : (hold ? 10 : 7);
  const auto scan = static_cast<double>(per_state * config_.state + (hold && !config_.complex ? 11 : 12));
  Cost cost;
  cost.flops = in_proj_.flops(t) + x_proj_.flops(t) + dt_proj_.flops(t) + out_proj_.flops(t) +
               t * static_cast<double>(inner_) * (convolution + scan);
  // Recurrent entries are float32 or wider.
  const int64_t state_element = std::max<int64_t>(4, workload.element_size);
  cost.state_bytes = workload.rows * inner_ * (K - 1 + N) * state_element;
  const int64_t elements = tokens * (in_proj_.in() + 9 * inner_ + 2 * x_proj_.out() + out_proj_.out());
  cost.bytes_moved =
      static_cast<double>((elements + parameters_.count()) * workload.element_size + 2 * cost.state_bytes);
  // x; xz; the convolution's result; δ, B, C, once more where they are normed; Δ; the scan's result; and a state every
  // 64 tokens.
  const int64_t selected = (config_.inner_norms ? 2 : 1) * x_proj_.out();
  cost.saved_bytes = tokens * (in_proj_.in() + 5 * inner_ + selected) * workload.element_size +
                     workload.rows * ((workload.length + 63) / 64) * inner_ * N * state_element;
  return cost;
}

}  // namespace hippodrome
