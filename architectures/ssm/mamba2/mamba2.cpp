#include "architectures/ssm/mamba2/mamba2.h"

#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>

#include "architectures/ssm/carried_convolution.h"
#include "architectures/ssm/gated_rms_norm/gated_rms_norm.h"
#include "architectures/ssm/scan_step/scan_step.h"
#include "architectures/ssm/ssd/ssd.h"
#include "architectures/ssm/step_size.h"

namespace hippodrome {
namespace mamba2_detail {
namespace {

int64_t inner_width(const Mamba2::Config& config, int64_t width) {
  return static_cast<int64_t>(std::llround(config.expand * static_cast<double>(width)));
}

// The greatest divisor of the inner width up to `most`: an inner width that `most` does not divide keeps whole heads.
int64_t size_of_heads(int64_t inner, int64_t most) {
  for (int64_t size = std::min(most, inner); size > 1; --size) {
    if (inner % size == 0) return size;
  }
  return 1;
}

Initialiser log_uniform_decay(double low, double high) {
  return [low, high](Tensor& value, RandomStream stream) {
    initialise::uniform(low, high)(value, stream);
    value.log_();
  };
}

}  // namespace
}  // namespace mamba2_detail

void Mamba2::Config::bind(Fields& fields) {
  fields.integer("state", state, {1, 1024}, "states per channel N");
  fields.integer("head_size", head_size, {1, 1024},
                 "channels of a head P, at most: the greatest divisor of the inner width");
  fields.integer("groups", groups, {1, 1 << 16}, "groups of heads G, each with a B, a C and a norm of its own");
  fields.integer("conv", conv, {1, 16}, "taps of the causal convolution K");
  fields.number("expand", expand, {0.0, 64.0}, "inner width over the model's");
  fields.integer("chunk", chunk, {1, 4096}, "steps between two states kept for backward");
  fields.flag("conv_bias", conv_bias, "bias of the convolution");
  fields.flag("bias", bias, "biases of the input and output projections");
  fields.number("dt_min", dt_min, {1e-12, 1e3}, "smallest initial step size");
  fields.number("dt_max", dt_max, {1e-12, 1e3}, "largest initial step size");
  fields.number("dt_floor", dt_floor, {1e-12, 1e3}, "initial step sizes are at least this");
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  fields.number("dt_limit_low", dt_limit_low, {0.0, kInfinity}, "step sizes are clamped to at least this");
  fields.number("dt_limit_high", dt_limit_high, {0.0, kInfinity}, "step sizes are clamped to at most this");
  fields.flag("norm_before_gate", norm_before_gate, "norm, then gate, instead of a norm of the gated output");
  fields.number("gate_norm_epsilon", gate_norm_epsilon, {1e-12, 1.0},
                "added to the mean squares of the norm at the gate");
  fields.choice("kernel", kernel, {"fused", "reference"}, "the project's scan and convolution, or their plain loops");
}

absl::Status Mamba2::check(const Config& config, const Site& site) {
  const int64_t inner = mamba2_detail::inner_width(config, site.width);
  if (inner < 1) {
    return absl::InvalidArgumentError("expand = " + std::to_string(config.expand) + " leaves no inner width");
  }
  const int64_t heads = inner / mamba2_detail::size_of_heads(inner, config.head_size);
  if (heads % config.groups != 0) {
    return absl::InvalidArgumentError("the " + std::to_string(heads) +
                                      " heads do not divide into groups = " + std::to_string(config.groups));
  }
  if (config.dt_min > config.dt_max) {
    return absl::InvalidArgumentError("dt_min must not exceed dt_max");
  }
  if (config.dt_limit_low > config.dt_limit_high) {
    return absl::InvalidArgumentError("dt_limit_low must not exceed dt_limit_high");
  }
  return absl::OkStatus();
}

Mamba2::Mamba2(const Config& config, const Site& site)
    : config_(config),
      inner_(mamba2_detail::inner_width(config, site.width)),
      head_size_(mamba2_detail::size_of_heads(inner_, config.head_size)),
      heads_(inner_ / head_size_),
      in_proj_(site.width, 2 * inner_ + 2 * config.groups * config.state + heads_, {.bias = config.bias}),
      out_proj_(inner_, site.output_width,
                {.bias = config.bias,
                 .weight = initialise::scaled(initialise::uniform_fan_in(inner_),
                                              1.0 / std::sqrt(static_cast<double>(site.blocks)))}) {
  const ParameterFacts no_decay{.weight_decay = false}, sensitive{.weight_decay = false, .keep_float32 = true};
  const int64_t channels = inner_ + 2 * config.groups * config.state;
  parameters_.adopt("in_proj", in_proj_.parameters());
  conv_weight_ = parameters_.add("conv1d.weight", {channels, config.conv}, initialise::uniform_fan_in(config.conv));
  if (config.conv_bias) {
    conv_bias_ = parameters_.add("conv1d.bias", {channels}, initialise::uniform_fan_in(config.conv), no_decay);
  }
  dt_bias_ = parameters_.add("dt_bias", {heads_},
                             inverse_softplus_of_log_uniform(config.dt_min, config.dt_max, config.dt_floor), sensitive);
  A_log_ = parameters_.add("A_log", {heads_}, mamba2_detail::log_uniform_decay(1.0, 16.0), sensitive);
  D_ = parameters_.add("D", {heads_}, initialise::constant(1.0), sensitive);
  norm_weight_ = parameters_.add("norm.weight", {inner_}, initialise::constant(1.0), sensitive);
  parameters_.adopt("out_proj", out_proj_.parameters());
}

State Mamba2::initial_state(const StateSpec& spec) const {
  State state;
  state.declare("conv", StateKind::kPerRow,
                at::zeros({spec.rows, conv_weight_->value.size(0), config_.conv - 1}, spec.recurrent()));
  state.declare("ssm", StateKind::kPerRow, at::zeros({spec.rows, heads_, head_size_, config_.state}, spec.recurrent()));
  return state;
}

// Everything stays in [B, L, …] memory: the convolution sees a transposed view, the scan slices of its result.
Tensor Mamba2::forward(const Tensor& x, const Context& context, State* state) {
  const bool reference = config_.kernel == "reference";
  const OptionalTensor positions = context.op_positions();
  const int64_t GN = config_.groups * config_.state;
  const auto projected = in_proj_.forward(x).split_with_sizes({inner_, inner_ + 2 * GN, heads_}, -1);
  const Tensor convolved =
      carried_convolution(projected[1].transpose(1, 2), conv_weight_, conv_bias_, positions, reference, state);

  const auto selection = convolved.transpose(1, 2).split_with_sizes({inner_, GN, GN}, -1);
  SsdArguments scan;
  scan.x = selection[0].unflatten(-1, {heads_, head_size_});
  scan.dt = projected[2];
  scan.A = A_.get({A_log_->value}, x.scalar_type(), [&] { return A_log_->cast(x).exp().neg(); });
  scan.B = selection[1].unflatten(-1, {config_.groups, config_.state});
  scan.C = selection[2].unflatten(-1, {config_.groups, config_.state});
  scan.D = D_->cast(x);
  scan.dt_bias = dt_bias_->cast(x);
  scan.dt_softplus = true;
  scan.dt_low = config_.dt_limit_low;
  if (!std::isinf(config_.dt_limit_high)) scan.dt_high = config_.dt_limit_high;
  scan.chunk = config_.chunk;
  scan.positions = positions;
  Tensor y;
  const bool in_place = state && !reference && !at::GradMode::is_enabled();
  if (in_place && x.is_cpu()) {
    y = ssd_in_place(scan, state->get("ssm"));
  } else if (in_place && steps_on_gpu(scan)) {
    y = ssd_step(scan, state->get("ssm"));
  } else {
    if (state) scan.initial_state = state->get("ssm");
    Tensor last_state;
    std::tie(y, last_state) = reference ? ssd_reference(scan) : ssd(scan);
    if (state) state->put("ssm", last_state);
  }
  const GatedRmsNormOptions norm{config_.groups, config_.gate_norm_epsilon, config_.norm_before_gate};
  return out_proj_.forward((reference ? gated_rms_norm_reference : gated_rms_norm)(y.flatten(-2), projected[0],
                                                                                   norm_weight_->cast(x), norm));
}

Traits Mamba2::traits() const {
  return {.causal = true,
          .packs = true,
          .state_growth = StateGrowth::kConstant,
          .kernel_class = config_.kernel == "reference" ? KernelClass::kReference : KernelClass::kFused};
}

Cost Mamba2::cost(const Workload& workload) const {
  const int64_t tokens = workload.rows * workload.length, N = config_.state, P = head_size_, K = config_.conv;
  const int64_t channels = conv_weight_->value.size(0);
  const auto t = static_cast<double>(tokens);
  // Per token, sums, products, quotients and elementary functions counting one each, on the plain loops. Convolution,
  // per channel: K products and sums, and SiLU's difference, exponential, sum and quotient;
  const auto convolution = static_cast<double>(channels * (2 * K + 4));
  // scan, per head: bias 1, softplus 2, decay 2; per channel the input 1 and skip 2; per state two products and sums
  // for the state, a product and sum for the output; gate and norm, per channel: SiLU 5, gate 1, square 2, scale and
  // weight 2; per group 4.
  const auto scan = static_cast<double>(heads_ * (5 + P * (5 * N + 3)));
  const auto norm = static_cast<double>(10 * inner_ + 4 * config_.groups);
  Cost cost;
  cost.flops = in_proj_.flops(t) + out_proj_.flops(t) + t * (convolution + scan + norm);
  // Recurrent entries are float32 or wider.
  const int64_t state_element = std::max<int64_t>(4, workload.element_size);
  cost.state_bytes = workload.rows * (channels * (K - 1) + inner_ * N) * state_element;
  const int64_t elements = tokens * (in_proj_.in() + 2 * in_proj_.out() + 2 * channels + 4 * inner_ + out_proj_.out());
  cost.bytes_moved =
      static_cast<double>((elements + parameters_.count()) * workload.element_size + 2 * cost.state_bytes);
  // x; z, x, B, C, dt; the convolution's result; the scan's; the norm's, and its scales; and a state every chunk.
  const int64_t chunks = (workload.length + config_.chunk - 1) / config_.chunk;
  cost.saved_bytes = tokens * (in_proj_.in() + in_proj_.out() + channels + 2 * inner_) * workload.element_size +
                     (tokens * config_.groups + workload.rows * chunks * inner_ * N) * state_element;
  return cost;
}

}  // namespace hippodrome
