#pragma once

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/core/layer/toys.h"

// Layers with one mistake each, of the kind that is made when a layer is written.
namespace hippodrome::toys {

using Gated = GatedRecurrence;

// A value's gradient grown by a share, the value left alone.
inline Tensor with_wrong_gradient(const Tensor& value, double share) {
  const Tensor part = value.mul(share);
  return value.add(part).sub(part.detach());
}

// ---- sequences ----

struct NonCausal : Gated {
  using Gated::Gated;
  Tensor forward(const Tensor& x, const Context& context, State* state) override {
    return Gated::forward(x.add(x.roll(-1, 1), 0.1), context, state);
  }
};

// Looks ahead, but further than a short test would see.
struct FarNonCausal : Gated {
  using Gated::Gated;
  Tensor forward(const Tensor& x, const Context& context, State* state) override {
    Tensor y = Gated::forward(x, context, state);
    if (x.size(1) <= 40) return y;
    return y.add(at::cat({x.narrow(1, 40, x.size(1) - 40), at::zeros_like(x.narrow(1, 0, 40))}, 1), 0.1);
  }
};

struct ForgetsAtChunkEdge : Gated {
  using Gated::Gated;
  Tensor carried(const Tensor& h, int64_t t) override { return t > 0 && t % 64 == 0 ? at::zeros_like(h) : h; }
};

struct ForgetsAtSplit : Gated {
  using Gated::Gated;
  Tensor start(State& state) override { return at::zeros_like(Gated::start(state)); }
};

struct DetachedState : Gated {
  using Gated::Gated;
  Tensor start(State& state) override { return Gated::start(state).detach(); }
};

// Its short way for one token, taken in inference alone, scales wrongly.
struct WrongStep : Gated {
  using Gated::Gated;
  Tensor forward(const Tensor& x, const Context& context, State* state) override {
    Tensor y = Gated::forward(x, context, state);
    return x.size(1) == 1 && !at::GradMode::is_enabled() ? y.mul(1.001) : y;
  }
};

struct PaddingLeaks : Gated {
  using Gated::Gated;
  Tensor forward(const Tensor& x, const Context& context, State* state) override {
    Context blind = context;
    blind.positions = context.positions.abs();
    return Gated::forward(x, blind, state);
  }
};

struct PackingLeaks : Gated {
  using Gated::Gated;
  Tensor forward(const Tensor& x, const Context& context, State* state) override {
    Context blind = context;
    blind.positions = context.positions.masked_fill(context.positions.eq(0), 1);
    return Gated::forward(x, blind, state);
  }
};

struct RowsMix : Gated {
  using Gated::Gated;
  Tensor forward(const Tensor& x, const Context& context, State* state) override {
    return Gated::forward(x.sub(x.mean({0}, /*keepdim=*/true), 0.1), context, state);
  }
};

// ---- numbers ----

struct WrongInputGradient : Gated {
  using Gated::Gated;
  Tensor forward(const Tensor& x, const Context& context, State* state) override {
    return Gated::forward(with_wrong_gradient(x, 0.01), context, state);
  }
};

struct WrongStateGradient : Gated {
  using Gated::Gated;
  Tensor start(State& state) override { return with_wrong_gradient(Gated::start(state), 0.01); }
};

// Right in the reference, wrong in what is used by default.
struct WrongFastKernel : Gated {
  using Gated::Gated;
  Tensor forward(const Tensor& x, const Context& context, State* state) override {
    Tensor y = Gated::forward(x, context, state);
    return config_.kernel == "fast" ? y.mul(1.0 + 1e-4) : y;
  }
};

struct WrongFastBackward : Gated {
  using Gated::Gated;
  Tensor forward(const Tensor& x, const Context& context, State* state) override {
    Tensor y = Gated::forward(x, context, state);
    return config_.kernel == "fast" ? with_wrong_gradient(y, 1e-4) : y;
  }
};

// Differs from call to call.
struct CountsCalls : Gated {
  using Gated::Gated;
  Tensor forward(const Tensor& x, const Context& context, State* state) override {
    return Gated::forward(x, context, state).add(1e-12 * static_cast<double>(calls_++));
  }
  int64_t calls_ = 0;
};

// Differs from one layer to the next of the same kind.
struct CountsLayers : Gated {
  CountsLayers(const Config& config, const Site& site) : Gated(config, site), number_(made_++) {}
  Tensor forward(const Tensor& x, const Context& context, State* state) override {
    return Gated::forward(x, context, state).add(1e-7 * static_cast<double>(number_));
  }
  int64_t number_;
  static inline int64_t made_ = 0;
};

struct WidensOutput : Gated {
  using Gated::Gated;
  Tensor forward(const Tensor& x, const Context& context, State* state) override {
    const Tensor y = Gated::forward(x, context, state);
    return y.scalar_type() == at::kBFloat16 ? y.to(at::kFloat) : y;
  }
};

struct WrongInBfloat16 : Gated {
  using Gated::Gated;
  Tensor forward(const Tensor& x, const Context& context, State* state) override {
    const Tensor y = Gated::forward(x, context, state);
    return y.scalar_type() == at::kBFloat16 ? y.mul(1.2) : y;
  }
};

// ---- what a layer says of itself ----

struct WrongStateBytes : Gated {
  using Gated::Gated;
  Cost cost(const Workload& workload) const override {
    Cost cost = Gated::cost(workload);
    cost.state_bytes += 4;
    return cost;
  }
};

struct WrongGrowth : Gated {
  using Gated::Gated;
  Traits traits() const override { return {.packs = true, .state_growth = StateGrowth::kLinear}; }
};

struct WrongFlops : Gated {
  using Gated::Gated;
  Cost cost(const Workload& workload) const override {
    Cost cost = Gated::cost(workload);
    cost.flops -= 2.0 * static_cast<double>(workload.rows * workload.length * width_ * width_);
    return cost;
  }
};

// Keeps every output.
struct Hoards : Gated {
  using Gated::Gated;
  Tensor forward(const Tensor& x, const Context& context, State* state) override {
    outputs_.push_back(Gated::forward(x, context, state).clone());
    return outputs_.back();
  }
  std::vector<Tensor> outputs_;
};

// ---- states as things ----

// Continues from what it kept itself, whatever the state says.
struct HidesState : Gated {
  using Gated::Gated;
  Tensor start(State& state) override { return fresh_ ? Gated::start(state) : kept_; }
  Tensor forward(const Tensor& x, const Context& context, State* state) override {
    fresh_ = context.positions.select(1, 0).le(0).all().item().toBool();
    Tensor y = Gated::forward(x, context, state);
    if (state) kept_ = state->get("h").clone();
    return y;
  }
  bool fresh_ = true;
  Tensor kept_;
};

// Its state is the number of a slot in a table of its own, so that a clone names the same slot.
struct StateByHandle : Gated {
  using Gated::Gated;
  State initial_state(const StateSpec& spec) const override {
    State state = Gated::initial_state(spec);
    state.declare("slot", StateKind::kPerRow, at::full({spec.rows}, next_slot_++, spec.options.dtype(at::kLong)));
    return state;
  }
  Tensor start(State& state) override {
    const auto found = slots_.find(slot_of(state));
    return found == slots_.end() ? Gated::start(state) : found->second;
  }
  Tensor forward(const Tensor& x, const Context& context, State* state) override {
    Tensor y = Gated::forward(x, context, state);
    if (state) slots_[slot_of(*state)] = state->get("h").clone();
    return y;
  }
  Cost cost(const Workload& workload) const override {
    Cost cost = Gated::cost(workload);
    cost.state_bytes += 8 * workload.rows;
    return cost;
  }
  static int64_t slot_of(State& state) { return state.get("slot")[0].item().toLong(); }
  mutable int64_t next_slot_ = 0;
  std::map<int64_t, Tensor> slots_;
};

// ---- construction ----

// Sets a bias by hand where only an initialiser would last.
struct SetsValueByHand : Gated {
  SetsValueByHand(const Config& config, const Site& site) : Gated(config, site) {
    parameters_.find("gate.bias")->value = at::full({site.width}, 3.0);
  }
};

// Draws by a number that it takes when it is made.
struct DrawsByOrder : Gated {
  DrawsByOrder(const Config& config, const Site& site) : Gated(config, site) {
    parameters_.find("gate.bias")->initialiser = initialise::constant(0.1 * static_cast<double>(made_++ % 7));
  }
  static inline int64_t made_ = 0;
};

// What `layer_entry` makes of a layer, with the config changed on its way in.
inline LayerEntry with_config(LayerEntry entry, std::function<void(ConfigValue&)> change) {
  entry.make = [make = entry.make, change](const ConfigValue& table, const std::string& path, const Site& site) {
    ConfigValue changed = table;
    change(changed);
    return make(changed, path, site);
  };
  return entry;
}

inline LayerEntry key_without_reader() {
  return with_config(layer_entry<Gated>("", "", ""), [](ConfigValue& config) { config.erase("value_scale"); });
}

inline LayerEntry unknown_keys_pass() {
  return with_config(layer_entry<Gated>("", "", ""), [](ConfigValue& config) {
    for (const auto& [key, value] : ConfigValue::Table(*config.table())) {
      if (key != "kernel" && key != "value_scale") config.erase(key);
    }
  });
}

// Documents a key that it then refuses.
inline LayerEntry documented_key_refused() {
  LayerEntry entry = layer_entry<Gated>("", "", "");
  entry.describe = [describe = entry.describe](Fields& fields) {
    describe(fields);
    int64_t heads = 2;
    fields.integer("heads", heads, {1, 8}, "not there");
  };
  return entry;
}

struct Throws : Gated {
  using Gated::Gated;
  Tensor forward(const Tensor&, const Context&, State*) override { TORCH_CHECK(false, "the layer fell over"); }
};

}  // namespace hippodrome::toys
