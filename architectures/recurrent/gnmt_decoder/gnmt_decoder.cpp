#include "architectures/recurrent/gnmt_decoder/gnmt_decoder.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "architectures/recurrent/additive_attention/additive_attention.h"
#include "architectures/recurrent/attentive_scan/attentive_scan.h"
#include "architectures/recurrent/attentive_scan/flops.h"
#include "architectures/recurrent/lstm_scan/lstm_scan.h"

namespace hippodrome {
namespace gnmt_decoder_detail {
namespace {

// Layers from this one on, counted from 0, add their input to their output.
constexpr int64_t kFirstResidual = 2;

Initialiser draw(const GnmtDecoder::Config& config, int64_t fan_in) {
  return config.init_range > 0.0 ? initialise::uniform(-config.init_range, config.init_range)
                                 : initialise::uniform_fan_in(fan_in);
}

Linear::Options weights(const GnmtDecoder::Config& config, int64_t fan_in, bool bias = false) {
  return {.bias = bias, .weight = draw(config, fan_in), .bias_initialiser = draw(config, fan_in)};
}

std::string entry(const char* what, size_t layer) { return what + std::to_string(layer); }

}  // namespace
}  // namespace gnmt_decoder_detail

void GnmtDecoder::Config::bind(Fields& fields) {
  fields.integer("layers", layers, {1, 1000}, "LSTM layers, the attending one included");
  fields.integer("alignment", alignment, {0, 1 << 20}, "hidden width of the attention's score; 0: the layers'");
  fields.flag("bias", bias, "a bias of every gate");
  fields.number("init_range", init_range, {0.0, 100.0}, "weights are drawn from U(± this); 0: U(±1/√fan-in)");
  fields.choice("kernel", kernel, {"fused", "reference"}, "one operator a layer over the whole target, or plain loops");
}

GnmtDecoder::GnmtDecoder(const Config& config, const Site& site)
    : config_(config),
      name_(site.name),
      width_(site.width),
      memory_width_(site.memory_width),
      hidden_(site.output_width),
      query_(hidden_, config.alignment > 0 ? config.alignment : hidden_, gnmt_decoder_detail::weights(config, hidden_)),
      key_(memory_width_, query_.out(), gnmt_decoder_detail::weights(config, memory_width_)),
      context_(memory_width_, 4 * hidden_, gnmt_decoder_detail::weights(config, memory_width_)) {
  using namespace gnmt_decoder_detail;
  parameters_.adopt("query", query_.parameters());
  parameters_.adopt("key", key_.parameters());
  score_ = parameters_.add("score", {query_.out()}, draw(config, query_.out()));
  parameters_.adopt("context", context_.parameters());
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const int64_t in = layer == 0 ? width_ : hidden_ + memory_width_;
    const std::string prefix = "layers." + std::to_string(layer);
    inputs_.emplace_back(in, 4 * hidden_, weights(config, hidden_, config.bias));
    parameters_.adopt(prefix + ".input", inputs_.back().parameters());
    recurrent_.push_back(parameters_.add(prefix + ".weight_hh", {4 * hidden_, hidden_}, draw(config, hidden_)));
  }
}

State GnmtDecoder::initial_state(const StateSpec& spec) const {
  TORCH_CHECK(spec.memory, "this decoder has no state without an encoder's output");
  State state;
  for (size_t layer = 0; layer < recurrent_.size(); ++layer) {
    for (const char* what : {"h", "c"}) {
      state.declare(gnmt_decoder_detail::entry(what, layer), StateKind::kPerRow,
                    at::zeros({spec.rows, hidden_}, spec.recurrent()));
    }
  }
  SourceMemory::read(*spec.memory, key_).declare(state);
  return state;
}

Tensor GnmtDecoder::forward(const Tensor& x, const Context& context, State* state) {
  using gnmt_decoder_detail::entry;
  TORCH_CHECK(state || context.memory, "this decoder needs an encoder's output");
  const bool reference = config_.kernel == "reference";
  const SourceMemory source = state ? SourceMemory::from(*state) : SourceMemory::read(*context.memory, key_);
  const OptionalTensor positions = target_positions(context);
  const auto carried = [&](const char* what, size_t layer) {
    return state ? OptionalTensor(state->get(entry(what, layer))) : std::nullopt;
  };
  const Tensor in = without_padding(x, context);
  const OptionalTensor first = carried("h", 0);
  auto [y, contexts, h, c] = attentive_scan({.cell = "lstm",
                                             .gates = inputs_[0].forward(in),
                                             .weight_hh = recurrent_[0]->cast(x),
                                             .weight_c = context_.weight()->cast(x),
                                             .weight_q = query_.weight()->cast(x),
                                             .keys = source.keys,
                                             .v = score_->cast(x),
                                             .values = source.values,
                                             .s0 = first,
                                             .c0 = carried("c", 0),
                                             .source_positions = source.op_positions(),
                                             .positions = positions},
                                            reference);
  if (context.observer && !context.training) {
    const Tensor before = shifted_states(y, first ? *first : at::zeros({x.size(0), hidden_}, x.options()), context);
    report_source_attention(context, name_, query_.forward(before), score_->cast(x), source);
  }
  if (state) {
    state->put("h0", h);
    state->put("c0", c);
  }
  for (size_t layer = 1; layer < recurrent_.size(); ++layer) {
    auto [out, last_h, last_c] =
        lstm_scan(inputs_[layer].forward(at::cat({y, contexts}, -1)), recurrent_[layer]->cast(x), carried("h", layer),
                  carried("c", layer), positions, reference);
    y = static_cast<int64_t>(layer) >= gnmt_decoder_detail::kFirstResidual ? y.add(out) : out;
    if (state) {
      state->put(entry("h", layer), last_h);
      state->put(entry("c", layer), last_c);
    }
  }
  return y;
}

Traits GnmtDecoder::traits() const {
  return {.causal = true,
          .packs = true,
          .state_growth = StateGrowth::kConstant,
          .kernel_class = config_.kernel == "reference" ? KernelClass::kReference : KernelClass::kFused,
          .needs_memory = true};
}

Cost GnmtDecoder::cost(const Workload& workload) const {
  const int64_t tokens = workload.rows * workload.length, source = workload.rows * workload.memory_length;
  const int64_t layers = config_.layers, H = hidden_, alignment = query_.out(), element = workload.element_size;
  const auto t = static_cast<double>(tokens);
  Cost cost;
  cost.flops = attentive_scan_flops(/*lstm=*/true, t, H, workload.memory_length, alignment, memory_width_);
  for (const Linear& input : inputs_) cost.flops += input.flops(t);
  cost.flops += static_cast<double>(layers - 1) * t * static_cast<double>(8 * H * H + 15 * H);
  if (workload.context == 0) cost.flops += key_.flops(static_cast<double>(source));  // the source is read once
  cost.state_bytes = workload.rows * layers * 2 * H * std::max<int64_t>(4, element) +
                     source * (alignment + memory_width_) * element + source * 8;  // and the positions
  const int64_t numbers = width_ + layers * (10 * H + memory_width_) + 2 * alignment;
  cost.bytes_moved = static_cast<double>((parameters_.count() + tokens * numbers) * element + 2 * cost.state_bytes) +
                     t * static_cast<double>(workload.memory_length * (alignment + memory_width_) * element);
  // Of every layer its input, gates, cell and output; the query and the context; the memory and its keys.
  cost.saved_bytes = (tokens * (width_ + 6 * H + alignment + memory_width_ + (layers - 1) * (7 * H + memory_width_)) +
                      source * (alignment + memory_width_)) *
                     element;
  return cost;
}

}  // namespace hippodrome
