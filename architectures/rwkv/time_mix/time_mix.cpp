#include "architectures/rwkv/time_mix/time_mix.h"

#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>

#include "architectures/rwkv/token_shift.h"
#include "architectures/rwkv/wkv4/op.h"
#include "architectures/rwkv/wkv4/wkv4.h"

namespace hippodrome {
namespace time_mix_detail {
namespace {

Linear::Options initialised(Initialiser initialiser) { return {.weight = std::move(initialiser)}; }

}  // namespace
}  // namespace time_mix_detail

void RwkvTimeMix::Config::bind(Fields& fields) {
  fields.choice("kernel", kernel, {"fused", "reference"}, "the project's WKV, or its plain loops");
}

RwkvTimeMix::RwkvTimeMix(const Config& config, const Site& site)
    : config_(config),
      width_(site.width),
      key_(width_, width_, time_mix_detail::initialised(initialise::constant(0.0))),
      value_(width_, width_, time_mix_detail::initialised(initialise::orthogonal(1.0))),
      receptance_(width_, width_, time_mix_detail::initialised(initialise::constant(0.0))),
      output_(width_, site.output_width, time_mix_detail::initialised(initialise::constant(0.0))) {
  // README.md, "Initial values"; l of L blocks, from 0.
  const auto l = static_cast<double>(site.repeat), L = static_cast<double>(site.repeats);
  const double a = site.repeats > 1 ? l / (L - 1.0) : 0.0, b = 1.0 - l / L;
  const auto D = static_cast<double>(width_);
  const auto power = [D](double exponent, double offset) {
    return initialise::from_index([=](int64_t i) { return std::pow(static_cast<double>(i) / D, exponent) + offset; });
  };
  time_decay_ = parameters_.add("time_decay", {width_}, initialise::from_index([a, D](int64_t i) {
                                  const double fraction = D > 1.0 ? static_cast<double>(i) / (D - 1.0) : 0.0;
                                  return -5.0 + 8.0 * std::pow(fraction, 0.7 + 1.3 * a);
                                }),
                                {.weight_decay = false, .learning_rate_scale = 2.0, .keep_float32 = true});
  time_first_ = parameters_.add("time_first", {width_}, initialise::from_index([](int64_t i) {
                                  return std::log(0.3) + 0.5 * static_cast<double>((i + 1) % 3 - 1);
                                }),
                                {.weight_decay = false, .learning_rate_scale = 3.0, .keep_float32 = true});
  const ParameterFacts no_decay{.weight_decay = false};
  mix_k_ = parameters_.add("time_mix_k", {width_}, power(b, 0.0), no_decay);
  mix_v_ = parameters_.add("time_mix_v", {width_}, power(b, 0.3 * a), no_decay);
  mix_r_ = parameters_.add("time_mix_r", {width_}, power(0.5 * b, 0.0), no_decay);
  parameters_.adopt("key", key_.parameters());
  parameters_.adopt("value", value_.parameters());
  parameters_.adopt("receptance", receptance_.parameters());
  parameters_.adopt("output", output_.parameters());
}

State RwkvTimeMix::initial_state(const StateSpec& spec) const {
  State state;
  Tensor wkv = at::zeros({spec.rows, 3, width_}, spec.recurrent());
  wkv.select(1, 2).fill_(kWkv4FreshMaximum);
  state.declare("shift", StateKind::kPerRow, at::zeros({spec.rows, width_}, spec.recurrent()));
  state.declare("wkv", StateKind::kPerRow, wkv);
  return state;
}

Tensor RwkvTimeMix::forward(const Tensor& x, const Context& context, State* state) {
  const TokenShift shifted = token_shift(x, context, state ? state->get("shift") : Tensor(),
                                         {mix_k_->cast(x), mix_v_->cast(x), mix_r_->cast(x)});
  const Tensor k = key_.forward(shifted.mixed[0]);
  const Tensor v = value_.forward(shifted.mixed[1]);
  const Tensor r = receptance_.forward(shifted.mixed[2]).sigmoid();
  const Tensor w = time_decay_->cast(x).exp().neg();
  const auto wkv = (config_.kernel == "reference" ? wkv4_reference : wkv4)(
      w, time_first_->cast(x), k, v, state ? OptionalTensor(state->get("wkv")) : std::nullopt, context.op_positions());
  if (state) {
    state->put("shift", shifted.last);
    state->put("wkv", wkv.last_state);
  }
  return output_.forward(r.mul(wkv.y));
}

Traits RwkvTimeMix::traits() const {
  return {.causal = true,
          .packs = true,
          .state_growth = StateGrowth::kConstant,
          .kernel_class = config_.kernel == "reference" ? KernelClass::kReference : KernelClass::kFused};
}

Cost RwkvTimeMix::cost(const Workload& workload) const {
  const int64_t tokens = workload.rows * workload.length;
  const auto t = static_cast<double>(tokens);
  // WKV per token and channel on its plain loops: 17 sums, products and quotients, 4 exponentials, one each.
  constexpr double kWkv = 21.0;
  Cost cost;
  cost.flops = key_.flops(t) + value_.flops(t) + receptance_.flops(t) + output_.flops(t) +
               kWkv * t * static_cast<double>(width_);
  const int64_t state_element = std::max<int64_t>(4, workload.element_size);  // float32 or wider
  cost.state_bytes = workload.rows * 4 * width_ * state_element;
  const int64_t elements = tokens * (17 * width_ + output_.out());
  cost.bytes_moved =
      static_cast<double>((elements + parameters_.count()) * workload.element_size + 2 * cost.state_bytes);
  // x, three mixes, k, v, r, the mean and its product with r; the state every 64 tokens.
  cost.saved_bytes = tokens * 9 * width_ * workload.element_size +
                     workload.rows * ((workload.length + 63) / 64) * 3 * width_ * state_element;
  return cost;
}

}  // namespace hippodrome
