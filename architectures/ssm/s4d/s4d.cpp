#include "architectures/ssm/s4d/s4d.h"

#include <ATen/ops/gelu.h>
#include <ATen/ops/glu.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "architectures/ssm/diagonal_scan/diagonal_scan.h"
#include "architectures/ssm/every_channel.h"
#include "architectures/ssm/s4d/convolution.h"
#include "core/tensor/at_least_float32.h"

namespace hippodrome {
void S4d::Config::bind(Fields& fields) {
  fields.integer("state", state, {2, 4096}, "real states per channel N, an even number: N/2 conjugate pairs");
  fields.choice("init", init, {"legs", "lin", "inv", "real"}, "initial poles");
  fields.choice("discretisation", discretisation, {"zoh", "bilinear"}, "zero-order hold or bilinear");
  fields.number("dt_min", dt_min, {1e-12, 1e3}, "smallest initial step size");
  fields.number("dt_max", dt_max, {1e-12, 1e3}, "largest initial step size");
  fields.choice("output", output, {"glu", "none"}, "after the GELU: a linear layer with a gate, or nothing");
  fields.number("learning_rate_scale", learning_rate_scale, {0.0, 1e3}, "of the step sizes and poles");
  fields.choice(
      "kernel", kernel, {"scan", "convolution", "reference"},
      "scan: the recurrence; convolution: FFT over whole plain sequences, else the scan; reference: plain loops");
}

absl::Status S4d::check(const Config& config, const Site& site) {
  if (config.state % 2 != 0) {
    return absl::InvalidArgumentError("state = " + std::to_string(config.state) +
                                      " must be even: it counts conjugate pairs");
  }
  if (config.dt_min > config.dt_max) return absl::InvalidArgumentError("dt_min must not exceed dt_max");
  if (config.output == "none" && site.width != site.output_width) {
    return absl::InvalidArgumentError("output = \"none\" keeps the width; here it would have to change from " +
                                      std::to_string(site.width) + " to " + std::to_string(site.output_width));
  }
  return absl::OkStatus();
}

S4d::S4d(const Config& config, const Site& site) : config_(config), width_(site.width), pairs_(config.state / 2) {
  const ParameterFacts dynamics{
      .weight_decay = false, .learning_rate_scale = config.learning_rate_scale, .keep_float32 = true};
  log_dt_ = parameters_.add("log_dt", {width_}, initialise::uniform(std::log(config.dt_min), std::log(config.dt_max)),
                            dynamics);
  log_decay_ = parameters_.add("log_decay", {width_, pairs_}, for_every_channel([config] {
                                 std::vector<double> row = initial_poles(config.init, config.state).decay;
                                 for (double& decay : row) decay = std::log(decay);
                                 return row;
                               }),
                               dynamics);
  frequency_ = parameters_.add(
      "frequency", {width_, pairs_},
      for_every_channel([config] { return initial_poles(config.init, config.state).frequency; }), dynamics);
  // Complex N(0, 1): half the variance in each part.
  C_ = parameters_.add("C", {width_, pairs_, 2}, initialise::normal(std::sqrt(0.5)), {.keep_float32 = true});
  D_ = parameters_.add("D", {width_}, initialise::normal(1.0), {.keep_float32 = true});
  if (config.output == "glu") {
    output_.emplace(width_, 2 * site.output_width, Linear::Options{.bias = true});
    parameters_.adopt("output", output_->parameters());
  }
}

State S4d::initial_state(const StateSpec& spec) const {
  State state;
  state.declare("ssm", StateKind::kPerRow, at::zeros({spec.rows, width_, pairs_, 2}, spec.recurrent()));
  return state;
}

Tensor S4d::forward(const Tensor& x, const Context& context, State* state) {
  const bool whole = state == nullptr && !context.ragged;
  const Tensor y = config_.kernel == "convolution" && whole ? convolve(x) : recur(x, context, state);
  const Tensor activated = at::gelu(y.addcmul(x, D_->value.to(x.scalar_type())));
  return output_ ? at::glu(output_->forward(activated), -1) : activated;
}

DiscreteSystem S4d::discrete_system() const {
  return discretise(log_dt_->value, log_decay_->value, frequency_->value, config_.discretisation == "bilinear");
}

// y_t = Σ_{s ≤ t} K_{t-s} x_s: for whole sequences, which start from a zero state and leave none.
Tensor S4d::convolve(const Tensor& x) const {
  const DiscreteSystem s = discrete_system();
  const Tensor c = C_->value.to(at::kDouble), c_real = c.select(-1, 0), c_imag = c.select(-1, 1);
  const auto wide = at_least_float32(x.scalar_type());
  const Tensor kernel =
      vandermonde_kernel(c_real.mul(s.b_real).sub(c_imag.mul(s.b_imag)), c_real.mul(s.b_imag).add(c_imag.mul(s.b_real)),
                         s.log_a_real, s.log_a_imag, x.size(1), wide);
  return fft_convolution(x.to(wide), kernel).to(x.scalar_type());
}

Tensor S4d::recur(const Tensor& x, const Context& context, State* state) {
  const Recurrence r = recurrence(at_least_float32(x.scalar_type()));
  const auto [y, last_state] =
      diagonal_scan(x.transpose(1, 2), r.a_real, r.a_imag, r.b_real, r.b_imag, r.c_real, r.c_imag,
                    state ? OptionalTensor(state->get("ssm")) : std::nullopt, context.op_positions(),
                    /*reference=*/config_.kernel == "reference");
  if (state) state->put("ssm", last_state);
  return y.transpose(1, 2);
}

S4d::Recurrence S4d::recurrence(at::ScalarType dtype) {
  const auto derive = [&] {
    const DiscreteSystem s = discrete_system();
    return Recurrence{s.a_real.to(dtype),
                      s.a_imag.to(dtype),
                      s.b_real.to(dtype),
                      s.b_imag.to(dtype),
                      C_->value.select(-1, 0).to(dtype),
                      C_->value.select(-1, 1).to(dtype)};
  };
  return recurrence_.get({log_dt_->value, log_decay_->value, frequency_->value, C_->value}, dtype, derive);
}

Traits S4d::traits() const {
  return {.causal = true,
          .packs = true,
          .state_growth = StateGrowth::kConstant,
          .kernel_class = config_.kernel == "convolution" ? KernelClass::kLibrary
                          : config_.kernel == "reference" ? KernelClass::kReference
                                                          : KernelClass::kFused};
}

Cost S4d::cost(const Workload& workload) const {
  const int64_t tokens = workload.rows * workload.length;
  const auto t = static_cast<double>(tokens);
  // The recurrence's plain loops per token and channel: 14 products and sums a pair (a x + b u is ten, Re(c x) four),
  // and the doubling of the sum.
  const auto recurrence = static_cast<double>(14 * pairs_ + 1);
  const bool convolution = config_.kernel == "convolution";
  Cost cost;
  cost.flops = t * static_cast<double>(width_) * recurrence + (output_ ? output_->flops(t) : 0.0);
  const int64_t state_element = std::max<int64_t>(4, workload.element_size);  // float32 or wider
  cost.state_bytes = workload.rows * width_ * 2 * pairs_ * state_element;
  const int64_t out = output_ ? output_->out() : 0;
  // The spectra of input and output are twice as long as the sequence.
  const int64_t elements = tokens * ((convolution ? 16 : 8) * width_ + 3 * out);
  cost.bytes_moved =
      static_cast<double>((elements + parameters_.count()) * workload.element_size + 2 * cost.state_bytes);
  // x, the GELU's input and output, the gate's input; the convolution keeps the input's spectrum, the scan a state
  // every 64 tokens.
  cost.saved_bytes = tokens * (3 * width_ + out) * workload.element_size;
  cost.saved_bytes += convolution ? tokens * 2 * width_ * state_element
                                  : workload.rows * ((workload.length + 63) / 64) * width_ * 2 * pairs_ * state_element;
  return cost;
}

}  // namespace hippodrome
