#include "experiments/plan/figures.h"

#include <algorithm>
#include <set>

namespace hippodrome {
namespace plan_figures_detail {
namespace {

// Matrices with shorter rows (convolution taps, states) stay unquantised: their scales would outweigh what is saved.
constexpr int64_t kShortestQuantisedRow = 32;
constexpr int64_t kInt4Group = 32;
constexpr int64_t kInt4GroupOverhead = 4;  // bytes: a bfloat16 scale and a bfloat16 zero
constexpr int64_t kScale = 2;              // bytes of an int8 row's

// Looked up by row, never multiplied.
bool is_lookup(const std::string& name) {
  return name == "embedding.weight" || name.ends_with(".embedding.weight") || name.ends_with("position_embedding.weight");
}

bool is_matrix(const Parameter& parameter) { return parameter.value.dim() >= 2 && !is_lookup(parameter.name); }

int64_t at_rest(const Parameter& parameter, const std::string& format) {
  const int64_t elements = parameter.value.numel(), row = parameter.value.dim() > 0 ? parameter.value.size(-1) : 1;
  if (format == "float32" || parameter.facts.keep_float32) return 4 * elements;
  if (format == "bfloat16" || !is_matrix(parameter) || row < kShortestQuantisedRow) return 2 * elements;
  const int64_t rows = elements / row;
  if (format == "int8") return elements + rows * kScale;
  return rows * ((row + kInt4Group - 1) / kInt4Group) * (kInt4Group / 2 + kInt4GroupOverhead);
}

int64_t element_bytes(at::ScalarType dtype) { return static_cast<int64_t>(at::elementSize(dtype)); }

// Sets a model's compute dtype for as long as a figure is taken.
class ComputeDtype {
 public:
  ComputeDtype(LanguageModel& model, at::ScalarType dtype) : model_(model), before_(model.compute_dtype()) {
    model.set_compute_dtype(dtype);
  }
  ~ComputeDtype() { model_.set_compute_dtype(before_); }
  ComputeDtype(const ComputeDtype&) = delete;
  ComputeDtype& operator=(const ComputeDtype&) = delete;

 private:
  LanguageModel& model_;
  const at::ScalarType before_;
};

KindSize& row_of(std::vector<KindSize>& kinds, const std::string& kind) {
  const auto found = std::find_if(kinds.begin(), kinds.end(), [&](const KindSize& k) { return k.kind == kind; });
  if (found != kinds.end()) return *found;
  kinds.push_back({.kind = kind});
  return kinds.back();
}

// All blocks, an encoder's first.
struct PlacedBlock {
  const Block* block;
  bool in_encoder;
};

std::vector<PlacedBlock> all_blocks(const LanguageModel& model) {
  std::vector<PlacedBlock> all;
  if (model.encoder()) {
    for (const auto& block : model.encoder()->blocks()) all.push_back({block.get(), true});
  }
  for (const auto& block : model.blocks()) all.push_back({block.get(), false});
  return all;
}

// Elements of all parameters that are looked up by row.
int64_t lookups(const LanguageModel& model) {
  int64_t total = 0;
  for (const ParameterPtr& parameter : model.parameters().list()) {
    if (is_lookup(parameter->name)) total += parameter->value.numel();
  }
  return total;
}

int64_t count_of(const LanguageModel& model, const std::string& name) {
  const ParameterPtr parameter = model.parameters().find(name);
  return parameter ? parameter->value.numel() : 0;
}

}  // namespace
}  // namespace plan_figures_detail

std::vector<KindSize> sizes_by_kind(LanguageModel& model, int64_t context) {
  using plan_figures_detail::count_of, plan_figures_detail::lookups;
  const Workload token{.rows = 1, .length = 1, .context = context, .memory_length = context};
  const int64_t embedding = lookups(model);
  std::vector<KindSize> kinds = {{.kind = "embedding", .layers = 1, .parameters = embedding, .active_parameters = embedding}};
  int64_t norms = model.parameters().count() - embedding - count_of(model, "head.weight");
  double head_flops = model.cost(token).flops;
  for (const auto& [block, in_encoder] : plan_figures_detail::all_blocks(model)) {
    // A decoded token costs the encoder nothing.
    const double flops = in_encoder ? 0.0 : block->cost(token).flops;
    const int64_t parameters = block->mixer_parameters();
    KindSize& kind = plan_figures_detail::row_of(kinds, (in_encoder ? "encoder " : "") + block->layer_name());
    kind.layers += 1;
    kind.parameters += parameters;
    kind.active_parameters += parameters - block->inactive_parameters();
    kind.flops += flops;
    norms -= parameters;
    head_flops -= flops;
  }
  const int64_t head = count_of(model, "head.weight");
  int64_t norm_layers = 0;
  for (const ParameterPtr& parameter : model.parameters().list()) {
    const std::string& name = parameter->name;
    norm_layers += name.ends_with("norm.weight") && name.find(".mixer.") == std::string::npos ? 1 : 0;
  }
  if (norms > 0) kinds.push_back({.kind = "norms", .layers = norm_layers, .parameters = norms, .active_parameters = norms});
  kinds.push_back({.kind = "head", .layers = 1, .parameters = head, .active_parameters = head, .flops = head_flops});
  return kinds;
}

TokenFlops flops_per_token(LanguageModel& model, int64_t context, int64_t length) {
  TokenFlops flops;
  const int64_t source = model.encoder() ? length : 0;  // pairs of equal lengths
  flops.decode = model.cost({.rows = 1, .length = 1, .context = context, .memory_length = context}).flops;
  flops.train = 3.0 * model.cost({.rows = 1, .length = length, .context = 0, .memory_length = source}).flops /
                static_cast<double>(length + source);
  int64_t matrices = 0;
  for (const ParameterPtr& parameter : model.parameters().list()) {
    if (plan_figures_detail::is_matrix(*parameter)) matrices += parameter->value.numel();
  }
  for (const auto& placed : plan_figures_detail::all_blocks(model)) matrices -= placed.block->inactive_parameters();
  const int64_t embedding = plan_figures_detail::count_of(model, "embedding.weight");
  if (model.config().tied) matrices += embedding;  // tied: the head's product with it
  flops.matrices = 2.0 * static_cast<double>(matrices);
  flops.matrices_with_embedding = flops.matrices + 2.0 * static_cast<double>(embedding);
  return flops;
}

SequenceBytes sequence_bytes(LanguageModel& model, int64_t context, at::ScalarType dtype) {
  const plan_figures_detail::ComputeDtype as_asked(model, dtype);
  SequenceBytes bytes;
  const int64_t element = plan_figures_detail::element_bytes(dtype);
  StateSpec spec{.rows = 1, .capacity = 0, .options = at::TensorOptions().dtype(dtype).device(at::kMeta)};
  for (const auto& block : model.blocks()) {
    if (block->layer().traits().needs_memory) {
      // Made of a source, of which there is none to be had: as the layer declares it. A source counts like a context.
      const auto held = [&](int64_t source) {
        return block->cost({.rows = 1, .length = 1, .context = 1, .element_size = element, .memory_length = source}).state_bytes;
      };
      bytes.state += held(0);
      bytes.state_elements += held(0) / std::max<int64_t>(4, element);
      bytes.published_state_elements += held(0) / std::max<int64_t>(4, element);
      bytes.cache_per_token += held(1) - held(0);
      bytes.cache += (held(1) - held(0)) * context;
      bytes.windowed_cache += (held(1) - held(0)) * context;
      continue;
    }
    spec.capacity = 0;
    const State empty = block->initial_state(spec);
    spec.capacity = 1;
    const int64_t state = empty.reserved(), per_token = block->initial_state(spec).reserved() - state;
    const int64_t window = block->layer().traits().window;
    bytes.state += state;
    bytes.cache_per_token += per_token;
    bytes.cache += per_token * context;
    bytes.windowed_cache += per_token * (window > 0 ? std::min(window, context) : context);
    for (const auto& [name, value] : empty.tensors()) {
      bytes.state_elements += value.numel();
      // A convolution's window: [B, C, k − 1].
      const bool convolution = name == "conv" && value.size(-1) > 0;
      bytes.published_state_elements += value.numel() + (convolution ? value.numel() / value.size(-1) : 0);
    }
  }
  return bytes;
}

std::vector<WeightBytes> weight_bytes(LanguageModel& model) {
  std::vector<WeightBytes> formats = {{"float32"}, {"bfloat16"}, {"int8"}, {"int4"}};
  for (const ParameterPtr& parameter : model.parameters().list()) {
    for (WeightBytes& format : formats) format.bytes += plan_figures_detail::at_rest(*parameter, format.format);
  }
  return formats;
}

TrainingBytes training_bytes(LanguageModel& model, int64_t rows, int64_t length, at::ScalarType dtype) {
  const int64_t element = plan_figures_detail::element_bytes(dtype), tokens = rows * length, width = model.config().width;
  const Workload workload{
      .rows = rows, .length = length, .element_size = element, .memory_length = model.encoder() ? length : 0};
  TrainingBytes bytes;
  bytes.weights = bytes.gradients = 4 * model.parameters().count();
  bytes.optimizer = 2 * bytes.weights;
  // A block keeps its input in the residual stream's float32, for its norm; the layer's own x is in the layer's figure.
  const int64_t block_input = tokens * width * 4;
  int64_t saved = 0, largest = 0;
  const auto blocks = plan_figures_detail::all_blocks(model);
  for (const auto& placed : blocks) {
    const int64_t layer = placed.block->cost(workload).saved_bytes;
    saved += block_input + layer;
    largest = std::max(largest, layer);
  }
  // Around the blocks: the final norm's input, the head's, the logarithms of the softmax and the gradient of the logits in
  // float32, and the logits themselves where they are of another dtype.
  int64_t around = block_input + tokens * width * element + tokens * model.vocabulary() * (element < 4 ? 8 + element : 8);
  if (element < 4) {
    for (const ParameterPtr& parameter : model.parameters().list()) {
      const bool cast = !parameter->facts.keep_float32 && !plan_figures_detail::is_lookup(parameter->name);
      if (cast) around += element * parameter->value.numel();  // the weight as products read it, kept for backward
    }
  }
  bytes.activations = saved + around;
  bytes.activations_recomputed = block_input * static_cast<int64_t>(blocks.size()) + largest + around;
  return bytes;
}

int64_t largest_that_fits(const std::function<int64_t(int64_t)>& bytes, int64_t budget, int64_t limit) {
  if (limit < 1 || bytes(1) > budget) return 0;
  int64_t fits = 1, step = 1;
  // Doubling first: nothing far beyond the answer is ever asked for, so bytes() cannot overflow.
  while (fits < limit && bytes(std::min(2 * fits, limit)) <= budget) fits = std::min(2 * fits, limit);
  for (step = fits; step > 0; step /= 2) {
    while (fits + step <= limit && bytes(fits + step) <= budget) fits += step;
  }
  return fits;
}

TransformerTwin transformer_twin(const LanguageModel& model, at::ScalarType dtype) {
  TransformerTwin twin;
  twin.layers = (static_cast<int64_t>(plan_figures_detail::all_blocks(model).size()) + 1) / 2;
  twin.width = model.config().width;
  twin.cache_per_token = 2 * twin.layers * twin.width * plan_figures_detail::element_bytes(dtype);
  return twin;
}

int64_t break_even_tokens(int64_t state, int64_t cache_per_token, const TransformerTwin& twin) {
  const int64_t gained = twin.cache_per_token - cache_per_token;
  return gained > 0 ? (state + gained - 1) / gained : 0;
}

}  // namespace hippodrome
