#include "architectures/rwkv/channel_mix/channel_mix.h"

#include <ATen/ops/relu.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>

#include "architectures/rwkv/token_shift.h"

namespace hippodrome {
namespace channel_mix_detail {
namespace {

int64_t hidden_width(double expansion, int64_t width) {
  return std::max<int64_t>(1, std::llround(expansion * static_cast<double>(width)));
}

Linear::Options initialised(Initialiser initialiser) { return {.weight = std::move(initialiser)}; }

double orthogonal_gain(int64_t in, int64_t out) {
  return out > in ? std::sqrt(static_cast<double>(out) / static_cast<double>(in)) : 1.0;
}

}  // namespace
}  // namespace channel_mix_detail

void RwkvChannelMix::Config::bind(Fields& fields) {
  fields.number("expansion", expansion, {1e-3, 64.0}, "hidden width over the model's");
}

RwkvChannelMix::RwkvChannelMix(const Config& config, const Site& site)
    : width_(site.width),
      hidden_(channel_mix_detail::hidden_width(config.expansion, site.width)),
      key_(width_, hidden_,
           channel_mix_detail::initialised(
               initialise::orthogonal(channel_mix_detail::orthogonal_gain(site.width, hidden_)))),
      receptance_(width_, site.output_width, channel_mix_detail::initialised(initialise::constant(0.0))),
      value_(hidden_, site.output_width, channel_mix_detail::initialised(initialise::constant(0.0))) {
  const double b = 1.0 - static_cast<double>(site.repeat) / static_cast<double>(site.repeats);
  const Initialiser mix = initialise::from_index(
      [b, D = static_cast<double>(width_)](int64_t i) { return std::pow(static_cast<double>(i) / D, b); });
  mix_k_ = parameters_.add("time_mix_k", {width_}, mix, {.weight_decay = false});
  mix_r_ = parameters_.add("time_mix_r", {width_}, mix, {.weight_decay = false});
  parameters_.adopt("key", key_.parameters());
  parameters_.adopt("receptance", receptance_.parameters());
  parameters_.adopt("value", value_.parameters());
}

State RwkvChannelMix::initial_state(const StateSpec& spec) const {
  State state;
  state.declare("shift", StateKind::kPerRow, at::zeros({spec.rows, width_}, spec.recurrent()));
  return state;
}

Tensor RwkvChannelMix::forward(const Tensor& x, const Context& context, State* state) {
  const TokenShift shifted =
      token_shift(x, context, state ? state->get("shift") : Tensor(), {mix_k_->cast(x), mix_r_->cast(x)});
  if (state) state->put("shift", shifted.last);
  const Tensor k = at::relu(key_.forward(shifted.mixed[0])).square();
  return receptance_.forward(shifted.mixed[1]).sigmoid().mul(value_.forward(k));
}

Traits RwkvChannelMix::traits() const {
  return {.causal = true, .packs = true, .state_growth = StateGrowth::kConstant, .kernel_class = KernelClass::kFused};
}

Cost RwkvChannelMix::cost(const Workload& workload) const {
  const int64_t tokens = workload.rows * workload.length, out = value_.out();
  const auto t = static_cast<double>(tokens);
  Cost cost;
  cost.flops = key_.flops(t) + receptance_.flops(t) + value_.flops(t);
  cost.state_bytes = workload.rows * width_ * std::max<int64_t>(4, workload.element_size);  // float32 or wider
  const int64_t elements = tokens * (5 * width_ + 6 * hidden_ + 6 * out);
  cost.bytes_moved =
      static_cast<double>((elements + parameters_.count()) * workload.element_size + 2 * cost.state_bytes);
  // x, two mixes, relu and its square, the receptance and the value.
  cost.saved_bytes = tokens * (3 * width_ + 2 * hidden_ + 2 * out) * workload.element_size;
  return cost;
}

}  // namespace hippodrome
