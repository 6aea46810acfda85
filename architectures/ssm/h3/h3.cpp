#include "architectures/ssm/h3/h3.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "architectures/ssm/causal_fir/causal_fir.h"
#include "architectures/ssm/diagonal_scan/diagonal_scan.h"
#include "architectures/ssm/every_channel.h"
#include "architectures/ssm/h3/shift.h"
#include "architectures/ssm/s4d/convolution.h"
#include "architectures/ssm/s4d/discretisation.h"
#include "core/tensor/at_least_float32.h"

namespace hippodrome {
namespace h3_detail {
namespace {

int64_t shift_states(const H3::Config& config) { return config.shift_state > 0 ? config.shift_state : config.state; }

Linear::Options projection(const H3::Config& config) {
  Linear::Options options{.bias = true};
  if (config.init == "gpt2") {
    options.weight = initialise::normal(0.02);
    options.bias_initialiser = initialise::constant(0.0);
  }
  return options;
}

// 1 at the first of every `period` places, else 0.
Initialiser first_of(int64_t period) {
  return initialise::from_index([period](int64_t i) { return i % period == 0 ? 1.0 : 0.0; });
}

Tensor real(const Tensor& pairs) { return pairs.select(-1, 0).to(at::kDouble); }
Tensor imag(const Tensor& pairs) { return pairs.select(-1, 1).to(at::kDouble); }

// [H, …] -> [H copies, …]: every feature's system for each of its channels.
Tensor spread(const Tensor& t, int64_t copies) { return copies == 1 ? t : t.repeat_interleave(copies, 0); }

}  // namespace
}  // namespace h3_detail

void H3::Config::bind(Fields& fields) {
  fields.integer("state", state, {2, 4096}, "real states N of the diagonal model, an even number: N/2 conjugate pairs");
  fields.integer("shift_state", shift_state, {0, 4096},
                 "states of the shift model, keys it looks back on; 0: as state");
  fields.integer("head_size", head_size, {1, 256},
                 "dh, a divisor of the width: the diagonal model runs on dh × dh "
                 "outer products of keys and values");
  fields.choice("poles", poles, {"lin", "inv", "legs", "real"}, "initial poles of the diagonal model, as S4D's");
  fields.choice("discretisation", discretisation, {"bilinear", "zoh"}, "bilinear or zero-order hold");
  fields.number("dt_min", dt_min, {1e-12, 1e3}, "smallest initial step size");
  fields.number("dt_max", dt_max, {1e-12, 1e3}, "largest initial step size");
  fields.number("learning_rate_scale", learning_rate_scale, {0.0, 1e3}, "of step sizes, poles and both B");
  fields.choice("init", init, {"default", "gpt2"}, "of the projections: U(±1/√fan-in); gpt2: N(0, 0.02), biases 0");
  fields.choice("kernel", kernel, {"fused", "convolution", "reference"},
                "fused: both models by the project's operators; convolution: the diagonal one by FFT over whole plain "
                "sequences; reference: plain loops");
}

absl::Status H3::check(const Config& config, const Site& site) {
  if (config.state % 2 != 0) {
    return absl::InvalidArgumentError("state = " + std::to_string(config.state) +
                                      " must be even: it counts conjugate pairs");
  }
  if (site.width % config.head_size != 0) {
    return absl::InvalidArgumentError("head_size = " + std::to_string(config.head_size) + " must divide the width, " +
                                      std::to_string(site.width));
  }
  if (config.dt_min > config.dt_max) return absl::InvalidArgumentError("dt_min must not exceed dt_max");
  return absl::OkStatus();
}

H3::H3(const Config& config, const Site& site)
    : config_(config),
      width_(site.width),
      heads_(site.width / config.head_size),
      channels_(site.width * config.head_size),
      pairs_(config.state / 2),
      q_(width_, width_, h3_detail::projection(config)),
      k_(width_, width_, h3_detail::projection(config)),
      v_(width_, width_, h3_detail::projection(config)),
      output_(width_, site.output_width, h3_detail::projection(config)) {
  const int64_t states = h3_detail::shift_states(config);
  const ParameterFacts dynamics{
      .weight_decay = false, .learning_rate_scale = config.learning_rate_scale, .keep_float32 = true};
  const ParameterFacts readout{.keep_float32 = true};
  const auto poles = [config](auto part) {
    return for_every_channel([config, part] { return part(initial_poles(config.poles, config.state)); });
  };
  parameters_.adopt("q_proj", q_.parameters());
  parameters_.adopt("k_proj", k_.parameters());
  parameters_.adopt("v_proj", v_.parameters());
  shift_B_ = parameters_.add("shift.B", {width_, states}, h3_detail::first_of(states), dynamics);
  shift_C_ = parameters_.add("shift.C", {width_, states}, initialise::uniform_fan_in(states), readout);
  shift_D_ = parameters_.add("shift.D", {width_}, initialise::normal(1.0), readout);
  log_dt_ = parameters_.add("log_dt", {heads_}, initialise::uniform(std::log(config.dt_min), std::log(config.dt_max)),
                            dynamics);
  log_decay_ = parameters_.add("log_decay", {heads_, pairs_}, poles([](InitialPoles p) {
                                 for (double& decay : p.decay) decay = std::log(decay);
                                 return p.decay;
                               }),
                               dynamics);
  frequency_ = parameters_.add("frequency", {heads_, pairs_}, poles([](const InitialPoles& p) { return p.frequency; }),
                               dynamics);
  B_ = parameters_.add("B", {heads_, pairs_, 2}, h3_detail::first_of(2), dynamics);
  // Complex N(0, 1): half the variance in each part.
  C_ = parameters_.add("C", {heads_, pairs_, 2}, initialise::normal(std::sqrt(0.5)), readout);
  D_ = parameters_.add("D", {heads_}, initialise::normal(1.0), readout);
  parameters_.adopt("output_linear", output_.parameters());
}

State H3::initial_state(const StateSpec& spec) const {
  State state;
  state.declare("shift", StateKind::kPerRow, at::zeros({spec.rows, shift_B_->value.size(1), width_}, spec.recurrent()));
  state.declare("ssm", StateKind::kPerRow, at::zeros({spec.rows, channels_, pairs_, 2}, spec.recurrent()));
  return state;
}

Tensor H3::forward(const Tensor& x, const Context& context, State* state) {
  // Between the projections everything is float32 or wider, as the models and their states.
  const auto wide = at_least_float32(x.scalar_type());
  const Operators operators = derived_.get({shift_B_->value, shift_C_->value, shift_D_->value, log_dt_->value, log_decay_->value,
                                           frequency_->value, B_->value, C_->value},
                                          wide, [&] { return derive(wide); });
  const Tensor q = q_.forward(x).to(wide), k = k_.forward(x).to(wide), v = v_.forward(x).to(wide);
  const auto [shifted, last_keys] =
      causal_fir(k, operators.taps, state ? OptionalTensor(state->get("shift")) : std::nullopt, context.op_positions(),
                 /*reference=*/config_.kernel == "reference");
  if (state) state->put("shift", last_keys);

  const int64_t rows = x.size(0), length = x.size(1), dh = config_.head_size;
  // A head's outer product, its first axis the key's: channels (head, key, value).
  const auto per_head = [&](const Tensor& t, std::vector<int64_t> sizes) {
    return t.view({rows, length, heads_, sizes[0], sizes[1]});
  };
  const Tensor kv = dh == 1 ? shifted.mul(v) : per_head(shifted, {dh, 1}).mul(per_head(v, {1, dh})).flatten(2);
  const bool whole = state == nullptr && !context.ragged;
  const Tensor read = config_.kernel == "convolution" && whole ? convolve(kv) : recur(kv, operators, context, state);
  const Tensor skip = h3_detail::spread(D_->value.to(wide), dh * dh);
  const Tensor s = read.addcmul(kv, skip);
  const Tensor y = dh == 1 ? s.mul(q) : per_head(s, {dh, dh}).mul(per_head(q, {dh, 1})).sum(3).flatten(2);
  return output_.forward(y.to(x.scalar_type()));
}

H3::Operators H3::derive(at::ScalarType dtype) const {
  // In float64: in float32 the discretisation loses digits at small steps.
  const DiscreteSystem s =
      discretise(log_dt_->value, log_decay_->value, frequency_->value, config_.discretisation == "bilinear");
  const Tensor B_real = h3_detail::real(B_->value), B_imag = h3_detail::imag(B_->value);
  const auto spread = [&](const Tensor& t) {
    return h3_detail::spread(t.to(dtype), config_.head_size * config_.head_size);
  };
  const Tensor lags = shift_taps(shift_B_->value.to(at::kDouble), shift_C_->value.to(at::kDouble));
  // D_s ∘ k is a tap on the key itself.
  const Tensor first = lags.narrow(1, 0, 1).add(shift_D_->value.to(at::kDouble).unsqueeze(1));
  const Tensor taps = at::cat({first, lags.narrow(1, 1, lags.size(1) - 1)}, 1);
  return {.taps = taps.t().to(dtype).contiguous(),
          .a_real = spread(s.a_real),
          .a_imag = spread(s.a_imag),
          .b_real = spread(s.b_real.mul(B_real).sub(s.b_imag.mul(B_imag))),
          .b_imag = spread(s.b_real.mul(B_imag).add(s.b_imag.mul(B_real))),
          .c_real = spread(h3_detail::real(C_->value)),
          .c_imag = spread(h3_detail::imag(C_->value))};
}

Tensor H3::recur(const Tensor& kv, const Operators& o, const Context& context, State* state) const {
  const auto [y, last_state] =
      diagonal_scan(kv.transpose(1, 2), o.a_real, o.a_imag, o.b_real, o.b_imag, o.c_real, o.c_imag,
                    state ? OptionalTensor(state->get("ssm")) : std::nullopt, context.op_positions(),
                    /*reference=*/config_.kernel == "reference");
  if (state) state->put("ssm", last_state);
  return y.transpose(1, 2);
}

// y_t = Σ_{s ≤ t} K_{t-s} kv_s: for whole sequences, which start from a zero state and leave none.
Tensor H3::convolve(const Tensor& kv) const {
  const DiscreteSystem s =
      discretise(log_dt_->value, log_decay_->value, frequency_->value, config_.discretisation == "bilinear");
  const Tensor B_real = h3_detail::real(B_->value), B_imag = h3_detail::imag(B_->value);
  const Tensor C_real = h3_detail::real(C_->value), C_imag = h3_detail::imag(C_->value);
  const Tensor CB_real = C_real.mul(B_real).sub(C_imag.mul(B_imag)),
               CB_imag = C_real.mul(B_imag).add(C_imag.mul(B_real));
  const Tensor kernel = vandermonde_kernel(CB_real.mul(s.b_real).sub(CB_imag.mul(s.b_imag)),
                                           CB_real.mul(s.b_imag).add(CB_imag.mul(s.b_real)), s.log_a_real, s.log_a_imag,
                                           kv.size(1), kv.scalar_type());
  return fft_convolution(kv, h3_detail::spread(kernel, config_.head_size * config_.head_size));
}

Traits H3::traits() const {
  return {.causal = true,
          .packs = true,
          .state_growth = StateGrowth::kConstant,
          .kernel_class = config_.kernel == "convolution" ? KernelClass::kLibrary
                          : config_.kernel == "reference" ? KernelClass::kReference
                                                          : KernelClass::kFused};
}

Cost H3::cost(const Workload& workload) const {
  const int64_t tokens = workload.rows * workload.length, shift_states = shift_B_->value.size(1);
  const auto t = static_cast<double>(tokens);
  // Per token: a product and a sum a tap; 14 products and sums a pair of the diagonal recurrence, and the doubling of
  // the sum.
  const double shift = static_cast<double>(2 * shift_states * width_);
  const double diagonal = static_cast<double>((14 * pairs_ + 1) * channels_);
  const bool convolution = config_.kernel == "convolution";
  Cost cost;
  cost.flops = q_.flops(t) + k_.flops(t) + v_.flops(t) + output_.flops(t) + t * (shift + diagonal);
  const int64_t state_element = std::max<int64_t>(4, workload.element_size);  // float32 or wider
  const int64_t ssm_bytes = channels_ * 2 * pairs_ * state_element;
  cost.state_bytes = workload.rows * (shift_states * width_ * state_element + ssm_bytes);
  // The spectra of the products and of their results are twice as long as the sequence.
  const int64_t elements = tokens * (12 * width_ + (convolution ? 16 : 6) * channels_ + output_.out());
  cost.bytes_moved =
      static_cast<double>((elements + parameters_.count()) * workload.element_size + 2 * cost.state_bytes);
  // x and the output's input; q, k, v and the shifted k; the products and what is read of them; the convolution keeps
  // the products' spectrum, the scan a state every 64 tokens.
  cost.saved_bytes = tokens * (2 * width_ * workload.element_size + (4 * width_ + 2 * channels_) * state_element);
  cost.saved_bytes +=
      convolution ? tokens * 2 * channels_ * state_element : workload.rows * ((workload.length + 63) / 64) * ssm_bytes;
  return cost;
}

}  // namespace hippodrome
