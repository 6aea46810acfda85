#include "experiments/scaffold.h"

#include <cctype>
#include <utility>

namespace hippodrome {
namespace {

// In these texts @name@ is the layer's name, @Name@ its class, @family@ its family.
constexpr char kHeader[] = R"(#pragma once

#include "core/base/config.h"
#include "core/layer/layer.h"
#include "core/layer/linear.h"

namespace hippodrome {

// A gated linear recurrence over E·D channels, to be replaced by your own mathematics (README.md beside this file):
//   v = W_v x,  δ = softplus(W_δ x),  h_t = exp(−δ_t)∘h_{t−1} + δ_t∘v_t,  y = W_o (h∘SiLU(W_z x)).
class @Name@ final : public Layer {
 public:
  struct Config {
    double expand = 1.0;  // E: channels of the recurrence per channel of the model
    std::string kernel = "fused";
    void bind(Fields& fields);
  };
  @Name@(const Config& config, const Site& site);

  Tensor forward(const Tensor& x, const Context& context, State* state) override;
  State initial_state(const StateSpec& spec) const override;
  Traits traits() const override;
  Cost cost(const Workload& workload) const override;

 private:
  Config config_;
  int64_t channels_;
  Linear in_;   // W_v, W_δ and W_z in one product: [3C, D]
  Linear out_;  // [E, C]
};

}  // namespace hippodrome
)";

constexpr char kSource[] = R"(#include "architectures/@family@/@name@/@name@.h"

#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <cmath>

#include "architectures/ssm/selective_scan/selective_scan.h"

namespace hippodrome {

void @Name@::Config::bind(Fields& fields) {
  fields.number("expand", expand, {0.01, 64.0}, "channels of the recurrence per channel of the model");
  fields.choice("kernel", kernel, {"fused", "reference"}, "fused loops, or plain ones to check them by");
}

@Name@::@Name@(const Config& config, const Site& site)
    : config_(config),
      channels_(std::max<int64_t>(1, std::llround(config.expand * static_cast<double>(site.width)))),
      in_(site.width, 3 * channels_),
      out_(channels_, site.output_width) {
  parameters_.adopt("in", in_.parameters());
  parameters_.adopt("out", out_.parameters());
}

Tensor @Name@::forward(const Tensor& x, const Context& context, State* state) {
  const auto parts = in_.forward(x).chunk(3, /*dim=*/-1);  // v, δ, z, each [B, L, C]
  // A selective scan with one state per channel, A = −1 and B = C = 1: it runs at full speed, knows positions, and carries
  // gradients through its states.
  const auto wide = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto options = x.options().dtype(wide);
  SelectiveScanArguments arguments;
  arguments.u = parts[0].transpose(1, 2);
  arguments.delta = parts[1].transpose(1, 2);
  arguments.z = parts[2].transpose(1, 2);
  arguments.A = at::full({channels_, 1}, -1.0, options);
  arguments.B = at::ones({x.size(0), x.size(1), 1}, parts[0].options()).transpose(1, 2);
  arguments.C = arguments.B;
  arguments.delta_softplus = true;
  if (state) arguments.initial_state = state->get("h");
  arguments.positions = context.op_positions();
  const auto [y, last] = config_.kernel == "fused" ? selective_scan(arguments) : selective_scan_reference(arguments);
  if (state) state->put("h", last);
  return out_.forward(y.transpose(1, 2));
}

State @Name@::initial_state(const StateSpec& spec) const {
  State state;
  state.declare("h", StateKind::kPerRow, at::zeros({spec.rows, channels_, 1}, spec.recurrent()));
  return state;
}

Traits @Name@::traits() const {
  return {.causal = true,
          .packs = true,
          .state_growth = StateGrowth::kConstant,
          .kernel_class = config_.kernel == "fused" ? KernelClass::kFused : KernelClass::kReference};
}

Cost @Name@::cost(const Workload& workload) const {
  const auto tokens = static_cast<double>(workload.rows * workload.length);
  const auto channels = static_cast<double>(channels_);
  Cost cost;
  // Per token and channel of the scan: softplus 2, δu 1, the state's update and output 7, the gate 6.
  cost.flops = in_.flops(tokens) + out_.flops(tokens) + 16.0 * tokens * channels;
  cost.bytes_moved = tokens * static_cast<double>(workload.element_size) * (static_cast<double>(in_.in() + out_.out()) + 8.0 * channels);
  cost.state_bytes = workload.rows * channels_ * (workload.element_size == 8 ? 8 : 4);
  cost.saved_bytes = static_cast<int64_t>(tokens * static_cast<double>(workload.element_size) * (static_cast<double>(in_.in()) + 4.0 * channels));
  return cost;
}

}  // namespace hippodrome
)";

constexpr char kReadme[] = R"(# @name@

What it is, and the paper it comes from.

**Equations.** v = W_v x; δ = softplus(W_δ x); h_t = exp(−δ_t)∘h_{t−1} + δ_t∘v_t; y = W_o (h∘SiLU(W_z x)).

| tensor | shape | meaning |
|---|---|---|
| x | [B, L, D] | input |
| v, δ, z | [B, L, C] | input, step and gate of each channel, C = expand·D |
| y | [B, L, E] | output |

**State.** `h` [B, C, 1] float32 (float64 for float64 inputs): constant in the sequence length.

**Cost.** Two matrix products, 2·3·D·C and 2·C·E per token, and 16·C for the scan.

**Traps.** None known.

Check it with `hippodrome check @name@`; race it with `[[models]] name = "@name@", pattern = ["@name@"]` in a recipe.
)";

std::string camel(const std::string& name) {
  std::string result;
  bool upper = true;
  for (const char c : name) {
    if (c == '_') {
      upper = true;
      continue;
    }
    result += upper ? static_cast<char>(std::toupper(static_cast<unsigned char>(c))) : c;
    upper = false;
  }
  return result;
}

}  // namespace

Scaffold::Scaffold(std::string name, std::string family)
    : name_(std::move(name)), family_(std::move(family)), type_(camel(name_)) {}

std::string Scaffold::fill(const char* text) const {
  std::string result = text;
  for (const auto& [mark, value] : {std::pair<std::string, std::string>{"@name@", name_}, {"@Name@", type_}, {"@family@", family_}}) {
    for (size_t at = result.find(mark); at != std::string::npos; at = result.find(mark, at + value.size())) {
      result.replace(at, mark.size(), value);
    }
  }
  return result;
}

std::string Scaffold::header() const { return fill(kHeader); }
std::string Scaffold::source() const { return fill(kSource); }
std::string Scaffold::readme() const { return fill(kReadme); }
std::string Scaffold::include_line() const { return fill("#include \"architectures/@family@/@name@/@name@.h\""); }
std::string Scaffold::registry_line() const {
  return fill("  registry.add(layer_entry<@Name@>(\"@name@\", \"@family@\", \"gated linear recurrence (scaffold)\"));");
}

}  // namespace hippodrome
