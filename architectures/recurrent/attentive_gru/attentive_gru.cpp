#include "architectures/recurrent/attentive_gru/attentive_gru.h"

#include <ATen/ops/zeros.h>

#include <algorithm>

#include "architectures/recurrent/additive_attention/additive_attention.h"
#include "architectures/recurrent/attentive_scan/attentive_scan.h"
#include "architectures/recurrent/attentive_scan/flops.h"
#include "architectures/recurrent/orthogonal_gates.h"

namespace hippodrome {
namespace attentive_gru_detail {
namespace {

int64_t hidden(const AttentiveGru::Config& config, const Site& site) {
  return config.hidden > 0 ? config.hidden : site.width;
}

// All matrices but the recurrent and the alignment's (Bahdanau et al. 2015, appendix B.1).
Linear::Options weights(const AttentiveGru::Config& config, double deviation = 0.01) {
  return config.init == "bahdanau" ? Linear::Options{.weight = initialise::normal(deviation)} : Linear::Options();
}

}  // namespace
}  // namespace attentive_gru_detail

void AttentiveGru::Config::bind(Fields& fields) {
  fields.integer("hidden", hidden, {0, 1 << 20}, "hidden width n; 0: the model's");
  fields.integer("alignment", alignment, {0, 1 << 20}, "hidden width of the attention's score; 0: n");
  fields.choice("context", context, {"attention", "last"}, "attend to the source, or take the encoder's last state");
  fields.choice("start", start, {"backward", "last", "mean"},
                "s_0 = tanh(W h) of: the backward half of the encoder's first token, its last token, the mean of all");
  fields.choice("init", init, {"default", "bahdanau"},
                "U(±1/√fan-in); or U orthogonal, W_a and U_a N(0, 0.001), v_a 0, all others N(0, 0.01)");
  fields.choice("kernel", kernel, {"fused", "reference"}, "one operator over the whole target, or plain loops");
}

absl::Status AttentiveGru::check(const Config& config, const Site& site) {
  if (config.start == "backward" && site.memory_width % 2 != 0) {
    return absl::InvalidArgumentError(
        "start = \"backward\" needs an encoder that reads both ways, and its output's width of " +
        std::to_string(site.memory_width) + " is odd: set start = \"last\"");
  }
  return absl::OkStatus();
}

AttentiveGru::AttentiveGru(const Config& config, const Site& site)
    : config_(config),
      name_(site.name),
      hidden_(attentive_gru_detail::hidden(config, site)),
      memory_width_(site.memory_width),
      input_(site.width, 3 * hidden_, attentive_gru_detail::weights(config)),
      context_(memory_width_, 3 * hidden_, attentive_gru_detail::weights(config)),
      initial_(config.start == "backward" ? memory_width_ / 2 : memory_width_, hidden_,
               attentive_gru_detail::weights(config)),
      readout_state_(hidden_, 2 * site.output_width, attentive_gru_detail::weights(config)),
      readout_input_(site.width, 2 * site.output_width, attentive_gru_detail::weights(config)),
      readout_context_(memory_width_, 2 * site.output_width, attentive_gru_detail::weights(config)) {
  parameters_.adopt("input", input_.parameters());
  weight_hh_ =
      parameters_.add("weight_hh", {3 * hidden_, hidden_},
                      config.init == "bahdanau" ? orthogonal_gates(3, hidden_) : initialise::uniform_fan_in(hidden_));
  parameters_.adopt("context", context_.parameters());
  parameters_.adopt("initial", initial_.parameters());
  if (attends()) {
    const int64_t alignment = config.alignment > 0 ? config.alignment : hidden_;
    query_.emplace(hidden_, alignment, attentive_gru_detail::weights(config, 0.001));
    key_.emplace(memory_width_, alignment, attentive_gru_detail::weights(config, 0.001));
    parameters_.adopt("query", query_->parameters());
    parameters_.adopt("key", key_->parameters());
    score_ =
        parameters_.add("score", {alignment},
                        config.init == "bahdanau" ? initialise::constant(0.0) : initialise::uniform_fan_in(alignment));
  }
  parameters_.adopt("readout_state", readout_state_.parameters());
  parameters_.adopt("readout_input", readout_input_.parameters());
  parameters_.adopt("readout_context", readout_context_.parameters());
}

SourceMemory AttentiveGru::read(const Memory& memory) const {
  if (attends()) return SourceMemory::read(memory, *key_);
  SourceMemory source;
  source.values = last_of(memory).unsqueeze(1);
  return source;
}

Tensor AttentiveGru::start(const Memory& memory) const {
  Tensor h;
  if (config_.start == "backward") {
    h = memory.values.select(1, 0).narrow(1, memory_width_ / 2, memory_width_ / 2);
  } else if (config_.start == "last") {
    h = last_of(memory);
  } else {
    const Tensor tokens = memory.positions.ge(0).sum(1, /*keepdim=*/true).clamp_min(1);
    h = memory.values.sum(1).div(tokens.to(memory.values.scalar_type()));
  }
  return initial_.forward(h).tanh();
}

State AttentiveGru::initial_state(const StateSpec& spec) const {
  TORCH_CHECK(spec.memory, "this decoder has no state without an encoder's output");
  State state;
  state.declare("s", StateKind::kPerRow, start(*spec.memory).to(spec.recurrent().dtype()));
  read(*spec.memory).declare(state);
  return state;
}

Tensor AttentiveGru::forward(const Tensor& x, const Context& context, State* state) {
  const int64_t rows = x.size(0), length = x.size(1);
  TORCH_CHECK(state || context.memory, "this decoder needs an encoder's output");
  const SourceMemory source = state ? SourceMemory::from(*state) : read(*context.memory);
  const Tensor s0 = state ? state->get("s") : start(*context.memory);
  const Tensor in = without_padding(x, context);
  const int64_t sources = source.values.size(0);
  AttentiveScanInputs scan{.cell = "gru",
                           .gates = input_.forward(in),
                           .weight_hh = weight_hh_->cast(x),
                           .weight_c = {},
                           .weight_q = {},
                           .keys = source.keys,
                           .v = {},
                           .values = source.values,
                           .s0 = s0,
                           .source_positions = source.op_positions(),
                           .positions = target_positions(context)};
  Tensor fixed;  // [B, 1, M], where the context does not change
  if (attends()) {
    scan.weight_c = context_.weight()->cast(x);
    scan.weight_q = query_->weight()->cast(x);
    scan.v = score_->cast(x);
  } else {
    fixed = source.values.expand({sources, source.rows_per_source, memory_width_}).reshape({rows, 1, memory_width_});
    scan.gates = scan.gates.add(context_.forward(fixed));
    // A memory of one token of one number, which is zero: nothing to attend to.
    scan.weight_c = at::zeros({3 * hidden_, 1}, x.options());
    scan.weight_q = at::zeros({1, hidden_}, x.options());
    scan.keys = scan.values = at::zeros({rows, 1, 1}, x.options());
    scan.v = at::zeros({1}, x.options());
  }
  auto [s, contexts, last, no_cell] = attentive_scan(scan, config_.kernel == "reference");
  const Tensor before = shifted_states(s, s0, context);
  if (context.observer && !context.training && attends()) {
    report_source_attention(context, name_, query_->forward(before), score_->cast(x), source);
  }
  // t = max over pairs of U_o s_{t-1} + V_o y_{t-1} + C_o c_t (appendix A.2.2).
  const Tensor paired = readout_state_.forward(before)
                            .add(readout_input_.forward(in))
                            .add(readout_context_.forward(attends() ? contexts : fixed));
  // Last, since the state is written in place and s0 may be a view of it.
  if (state) state->put("s", last);
  return paired.view({rows, length, -1, 2}).amax(-1);
}

Traits AttentiveGru::traits() const {
  return {.causal = true,
          .packs = true,
          .state_growth = StateGrowth::kConstant,
          .kernel_class = config_.kernel == "reference" ? KernelClass::kReference : KernelClass::kFused,
          .needs_memory = true};
}

Cost AttentiveGru::cost(const Workload& workload) const {
  const int64_t tokens = workload.rows * workload.length, source = workload.rows * workload.memory_length, n = hidden_;
  const int64_t wide = std::max<int64_t>(4, workload.element_size), element = workload.element_size;
  const int64_t alignment = attends() ? query_->out() : 0;
  const auto t = static_cast<double>(tokens), rows = static_cast<double>(workload.rows);
  Cost cost;
  cost.flops = input_.flops(t) + readout_state_.flops(t) + readout_input_.flops(t) +
               readout_context_.flops(attends() ? t : rows);
  cost.flops += attends() ? attentive_scan_flops(false, t, n, workload.memory_length, alignment, memory_width_)
                          : context_.flops(rows) + attentive_scan_flops(false, t, n, 1, 1, 1);
  if (workload.context == 0) {  // the source is read once
    cost.flops += initial_.flops(rows) + (attends() ? key_->flops(static_cast<double>(source)) : 0.0);
  }
  const int64_t kept = attends() ? source * (alignment + memory_width_) * element + source * 8  // and the positions
                                 : workload.rows * memory_width_ * element;
  cost.state_bytes = workload.rows * n * wide + kept;
  const int64_t numbers = input_.in() + 8 * n + 2 * alignment + 2 * memory_width_ + 3 * readout_state_.out();
  cost.bytes_moved = static_cast<double>((parameters_.count() + tokens * numbers) * element + 2 * cost.state_bytes) +
                     t * static_cast<double>(workload.memory_length * (alignment + memory_width_) * element);
  // x, the gates, the state twice, the query and the context, and what the maxout chose from; the memory and its keys.
  cost.saved_bytes = tokens * (input_.in() + 6 * n + alignment + memory_width_ + readout_state_.out()) * element +
                     (attends() ? source * (alignment + memory_width_) * element : 0);
  return cost;
}

}  // namespace hippodrome
