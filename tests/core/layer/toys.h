#pragma once

#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/layer/linear.h"
#include "core/layer/registry.h"

// A small correct layer with a state, for tests of everything around layers. Plain tensor operations, one step after another.
namespace hippodrome::toys {

// h_t = a_t h_{t−1} + (1 − a_t) v_t with a = σ(W_a x + b_a), v = W_v x; y = W_o h. State: h [B, D].
// The few virtual functions are where tests break it.
class GatedRecurrence : public Layer {
 public:
  struct Config {
    std::string kernel = "fast";
    double value_scale = 1.0;
    void bind(Fields& fields) {
      fields.choice("kernel", kernel, {"fast", "reference"}, "how the recurrence is computed");
      fields.number("value_scale", value_scale, {0.0, 10.0}, "factor on v");
    }
  };

  GatedRecurrence(const Config& config, const Site& site)
      : config_(config),
        width_(site.width),
        gate_(site.width, site.width, {.bias = true, .bias_initialiser = initialise::constant(1.0)}),
        value_(site.width, site.width),
        output_(site.width, site.output_width) {
    parameters_.adopt("gate", gate_.parameters());
    parameters_.adopt("value", value_.parameters());
    parameters_.adopt("output", output_.parameters());
  }

  Tensor forward(const Tensor& x, const Context& context, State* state) override {
    Tensor h = state ? start(*state) : initial_state({x.size(0), 0, x.options()}).get("h");
    const Tensor a = gate_.forward(x).to(h.scalar_type()).sigmoid();
    const Tensor v = value_.forward(x).to(h.scalar_type()).mul(config_.value_scale);
    std::vector<Tensor> outputs;
    for (int64_t t = 0; t < x.size(1); ++t) {
      h = carried(h, t);
      if (context.ragged) h = at::where(context.positions.select(1, t).eq(0).unsqueeze(-1), at::zeros_like(h), h);
      const Tensor a_t = a.select(1, t), v_t = v.select(1, t);
      // The two kernels round differently.
      Tensor next = config_.kernel == "reference" ? a_t.mul(h).add(v_t.sub(a_t.mul(v_t))) : v_t.add(a_t.mul(h.sub(v_t)));
      Tensor shown = next;
      if (context.ragged) {
        const Tensor padding = context.positions.select(1, t).lt(0).unsqueeze(-1);
        next = at::where(padding, h, next);
        shown = at::where(padding, at::zeros_like(h), next);
      }
      h = next;
      outputs.push_back(shown);
    }
    if (state) state->put("h", h);
    return output_.forward(at::stack(outputs, 1).to(x.scalar_type()));
  }

  State initial_state(const StateSpec& spec) const override {
    State state;
    state.declare("h", StateKind::kPerRow, at::zeros({spec.rows, width_}, spec.recurrent()));
    return state;
  }

  Traits traits() const override { return {.packs = true, .state_growth = StateGrowth::kConstant}; }

  Cost cost(const Workload& workload) const override {
    const auto tokens = static_cast<double>(workload.rows * workload.length);
    Cost cost;
    cost.flops = gate_.flops(tokens) + value_.flops(tokens) + output_.flops(tokens);
    cost.state_bytes = workload.rows * width_ * std::max<int64_t>(4, workload.element_size);
    return cost;
  }

 protected:
  virtual Tensor start(State& state) { return state.get("h"); }
  // What the step at token t of this call continues from.
  virtual Tensor carried(const Tensor& h, int64_t) { return h; }

  Config config_;
  int64_t width_;

 private:
  Linear gate_, value_, output_;
};

// The same layer without a way of its own to handle ragged positions.
class PlainRecurrence final : public GatedRecurrence {
 public:
  using GatedRecurrence::GatedRecurrence;
  Tensor forward(const Tensor& x, const Context& context, State* state) override {
    TORCH_CHECK(!context.ragged, "this layer takes no ragged positions");
    return GatedRecurrence::forward(x, context, state);
  }
  Traits traits() const override { return {.packs = false, .state_growth = StateGrowth::kConstant}; }
};

// Sums what its sequence has seen: y_t = W Σ_{s ≤ t} x_s / 10, with every x kept, so that the state grows with the sequence.
class GrowingSum final : public Layer {
 public:
  struct Config {
    void bind(Fields&) {}
  };
  GrowingSum(const Config&, const Site& site) : width_(site.width), output_(site.width, site.output_width) {
    parameters_.adopt("output", output_.parameters());
  }

  Tensor forward(const Tensor& x, const Context& context, State* state) override {
    const Tensor seen = state ? state->append("seen", x) : x;
    const Tensor positions = state ? state->append("positions", context.positions) : context.positions;
    const int64_t total = seen.size(1), length = x.size(1), before = total - length;
    const Tensor sequence = positions.eq(0).cumsum(1), index = at::arange(total, positions.options());
    const Tensor together = sequence.narrow(1, before, length).unsqueeze(2).eq(sequence.unsqueeze(1));
    const Tensor earlier = index.narrow(0, before, length).unsqueeze(1).ge(index);
    const Tensor counted = together.logical_and(earlier).logical_and(positions.ge(0).unsqueeze(1));  // [B, L, total]
    return output_.forward(at::bmm(counted.to(x.scalar_type()), seen).mul(0.1));
  }

  State initial_state(const StateSpec& spec) const override {
    State state;
    state.declare("seen", StateKind::kPerToken, at::zeros({spec.rows, spec.capacity, width_}, spec.options), 1);
    state.declare("positions", StateKind::kPerToken, at::zeros({spec.rows, spec.capacity}, spec.options.dtype(at::kLong)), 1);
    return state;
  }

  Traits traits() const override { return {.packs = true, .state_growth = StateGrowth::kLinear}; }

  Cost cost(const Workload& workload) const override {
    const int64_t total = workload.context + workload.length;
    const auto tokens = static_cast<double>(workload.rows * workload.length);
    Cost cost;
    cost.flops = output_.flops(tokens) + 2.0 * tokens * static_cast<double>(total * width_);
    cost.state_bytes = workload.rows * total * (width_ * workload.element_size + 8);
    return cost;
  }

 private:
  int64_t width_;
  Linear output_;
};

// y = W₂ relu(W₁ x): no state.
class PositionWise final : public Layer {
 public:
  struct Config {
    int64_t expansion = 2;
    void bind(Fields& fields) { fields.integer("expansion", expansion, {1, 64}, "hidden width over D"); }
  };
  PositionWise(const Config& config, const Site& site)
      : in_(site.width, config.expansion * site.width), out_(config.expansion * site.width, site.output_width) {
    parameters_.adopt("in", in_.parameters());
    parameters_.adopt("out", out_.parameters());
  }
  Tensor forward(const Tensor& x, const Context&, State*) override { return out_.forward(in_.forward(x).relu()); }
  Traits traits() const override { return {.packs = true}; }
  Cost cost(const Workload& workload) const override {
    const auto tokens = static_cast<double>(workload.rows * workload.length);
    return {.flops = in_.flops(tokens) + out_.flops(tokens)};
  }

 private:
  Linear in_, out_;
};

inline Registry toy_registry() {
  Registry registry;
  registry.add(layer_entry<GatedRecurrence>("gated", "toys", "a gated recurrence"));
  registry.add(layer_entry<PlainRecurrence>("plain", "toys", "a gated recurrence that does not pack"));
  registry.add(layer_entry<GrowingSum>("sum", "toys", "a running sum that keeps all it has seen"));
  registry.add(layer_entry<PositionWise>("mlp", "toys", "a position-wise layer"));
  return registry;
}

}  // namespace hippodrome::toys
