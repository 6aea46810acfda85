#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/laws/specimen.h"

// Laws about numbers: derivatives, fast against plain kernels, repeatability, low precision.
namespace hippodrome::law_checks {
namespace {

// Σ y∘w over a run from a state that has seen tokens, as a function of x, that state and the parameters. The run is cut in
// two, so that the state that the first part leaves counts as well.
struct Experiment {
  std::unique_ptr<Layer> layer;
  Tensor x, weights;
  std::map<std::string, Tensor> initial;
  Memory memory;  // for layers that attend to one

  Tensor value(const LawSubject& subject) const {
    State state = fresh_state(subject, *layer, x.size(0), at::kDouble, /*first=*/0, &memory);
    for (const auto& [name, tensor] : initial) state.put(name, tensor);
    const std::vector<int64_t> cut = {3, x.size(1) - 3}, whole = {x.size(1)};
    const Tensor y = run_pieces(*layer, x, layer->traits().causal ? cut : whole, &state, initial.empty() ? 0 : 5);
    return y.mul(weights).sum();
  }
};

// Directional derivative by central differences against the gradient, for one input.
double directional_error(const LawSubject& subject, const Experiment& experiment, Tensor& input, const Tensor& gradient,
                         const std::string& name) {
  const at::NoGradGuard no_grad;
  double worst = 0.0;
  for (int trial = 0; trial < 3; ++trial) {
    const Tensor direction = random_tensor(subject, input.sizes().vec(), at::kDouble, name + std::to_string(trial));
    constexpr double kStep = 1e-5;
    const Tensor kept = input.clone();
    input.copy_(kept.add(direction, kStep));
    const double above = experiment.value(subject).item().toDouble();
    input.copy_(kept.sub(direction, kStep));
    const double below = experiment.value(subject).item().toDouble();
    input.copy_(kept);
    const double numeric = (above - below) / (2.0 * kStep), analytic = gradient.mul(direction).sum().item().toDouble();
    const double scale = std::max({1.0, std::abs(numeric), std::abs(analytic)});
    worst = std::max(worst, std::abs(numeric - analytic) / scale);
  }
  return worst;
}

Tensor gradient_of(Tensor& leaf) {
  Tensor gradient = leaf.grad().defined() ? leaf.grad().clone() : leaf.detach().mul(0.0);
  leaf.mutable_grad() = Tensor();
  return gradient;
}

struct KernelRun {
  Tensor y;
  std::vector<Tensor> gradients;
};

KernelRun run_layer_once(const LawSubject& subject, Layer& layer, at::ScalarType dtype, int64_t length) {
  Tensor x = random_tensor(subject, {2, length, subject.width}, dtype, "x").requires_grad_(true);
  State state = fresh_state(subject, layer, 2, dtype);
  KernelRun run;
  run.y = run_plain(layer, x, state.empty() ? nullptr : &state);
  run.gradients = gradients(layer, x, run.y, random_tensor(subject, run.y.sizes().vec(), dtype, "weights"));
  return run;
}

KernelRun run_kernel(LawSubject subject, at::ScalarType dtype, const std::string& kernel, int64_t length) {
  if (kernel == "reference") subject.device = at::kCPU;  // the only one that has plain loops
  const auto layer = make_layer(subject, dtype, kernel);
  layer->parameters().set_requires_grad(true);
  return run_layer_once(subject, *layer, dtype, length);
}

double differing_tensors(const KernelRun& a, const KernelRun& b) {
  double differing = same_bits(a.y, b.y) ? 0.0 : 1.0;
  for (size_t i = 0; i < a.gradients.size(); ++i) {
    if (!same_bits(a.gradients[i], b.gradients[i])) differing += 1.0;
  }
  return differing;
}

bool has_key(const LawSubject& subject, const std::string& key) {
  DescribeFields fields;
  (*subject.registry->layer(subject.layer))->describe(fields);
  return std::any_of(fields.result.begin(), fields.result.end(), [&](const FieldDescription& f) { return f.key == key; });
}

}  // namespace

// Gradients by x, by every parameter and by the initial state equal finite differences in float64.
LawResult gradcheck(const LawSubject& subject) {
  Experiment experiment;
  experiment.layer = make_layer(subject, at::kDouble);
  experiment.layer->parameters().set_requires_grad(true);
  experiment.x = random_tensor(subject, {2, 5, subject.width}, at::kDouble, "x").requires_grad_(true);
  // A state that has seen tokens, so that what it holds is of the kind and size that it holds in use.
  if (experiment.layer->traits().state_growth == StateGrowth::kConstant) {
    const at::NoGradGuard no_grad;
    State seen = fresh_state(subject, *experiment.layer, 2, at::kDouble);
    run_plain(*experiment.layer, random_tensor(subject, {2, 5, subject.width}, at::kDouble, "seen"), &seen);
    experiment.initial = seen.clone().tensors();
    // What a state keeps of the encoder's output is made of it anew, so that its gradient is seen.
    std::erase_if(experiment.initial, [&](const auto& entry) { return seen.kind(entry.first) == StateKind::kPerSource; });
  }
  experiment.memory = law_memory(2, at::TensorOptions().dtype(at::kDouble).device(subject.device));
  experiment.memory.values.requires_grad_(experiment.layer->traits().needs_memory);
  for (auto& [name, tensor] : experiment.initial) tensor.requires_grad_(tensor.is_floating_point());
  experiment.weights = random_tensor(subject, {2, 5, subject.width}, at::kDouble, "weights");
  experiment.value(subject).backward();
  Worst worst;
  worst.add(directional_error(subject, experiment, experiment.x, gradient_of(experiment.x), "x"), "gradient of x");
  for (const ParameterPtr& parameter : experiment.layer->parameters().list()) {
    if (parameter->facts.learning_rate_scale == 0.0) continue;  // frozen: no gradient is owed
    worst.add(directional_error(subject, experiment, parameter->value, gradient_of(parameter->value), parameter->name),
              "gradient of " + parameter->name);
  }
  for (auto& [name, tensor] : experiment.initial) {
    if (!tensor.is_floating_point()) continue;
    worst.add(directional_error(subject, experiment, tensor, gradient_of(tensor), name), "gradient of the state's " + name);
  }
  if (experiment.memory.values.requires_grad()) {
    Tensor& values = experiment.memory.values;
    worst.add(directional_error(subject, experiment, values, gradient_of(values), "memory"), "gradient of the encoder's output");
  }
  return worst.result("gradcheck", 1e-6, "relative error");
}

// The fast kernel equals the plain one, forward and backward. The error against float64 is at most twice (gradients: three
// times) that of plain float32 loops, or 1e-6 (gradients: 3e-6) rel-RMS where that is larger. The float32 error of one or two
// sums is luck, not a mean, most of all where they cancel (the skip of a single head behind a norm, which sees no change of
// scale): gradients of so few numbers are held in float64 alone.
LawResult kernel(const LawSubject& subject) {
  if (!has_key(subject, "kernel")) return not_applicable("kernel", "the layer has one kernel");
  Worst worst;
  for (const int64_t length : {1, 5, 129}) {
    const KernelRun exact = run_kernel(subject, at::kDouble, "reference", length);
    const KernelRun plain = run_kernel(subject, at::kFloat, "reference", length);
    const KernelRun fast = run_kernel(subject, at::kFloat, "", length);
    const KernelRun fast_double = run_kernel(subject, at::kDouble, "", length);
    const std::string at = "length " + std::to_string(length);
    // Figures are shares of what is allowed.
    worst.add(rms_error(fast.y, exact.y) / std::max(1e-6, 2.0 * rms_error(plain.y, exact.y)), at + ", outputs in float32");
    worst.add(rms_error(fast_double.y, exact.y) / 1e-12, at + ", outputs in float64");
    for (size_t i = 0; i < exact.gradients.size(); ++i) {
      if (exact.gradients[i].norm().item().toDouble() < 1e-12) continue;
      if (exact.gradients[i].numel() > 2) {
        const double allowed = std::max(3e-6, 3.0 * rms_error(plain.gradients[i], exact.gradients[i]));
        worst.add(rms_error(fast.gradients[i], exact.gradients[i]) / allowed, at + ", gradient " + std::to_string(i) + " in float32");
      }
      worst.add(rms_error(fast_double.gradients[i], exact.gradients[i]) / 1e-10, at + ", gradient " + std::to_string(i) + " in float64");
    }
  }
  return worst.result("kernel", 1.0, "share of the allowed error");
}

// Two runs of one layer give the same bits, and so does the same layer made anew (the same thread count throughout).
LawResult determinism(const LawSubject& subject) {
  constexpr int64_t kLength = 70;
  const auto layer = make_layer(subject, at::kFloat);
  layer->parameters().set_requires_grad(true);
  const KernelRun first = run_layer_once(subject, *layer, at::kFloat, kLength);
  Worst worst;
  worst.add(differing_tensors(run_layer_once(subject, *layer, at::kFloat, kLength), first), "a second run of the same layer");
  worst.add(differing_tensors(run_kernel(subject, at::kFloat, "", kLength), first), "the layer made anew");
  return worst.result("determinism", 0.0, "tensors that differ");
}

// bfloat16 activations give what float32 gives, to bfloat16's precision, and leave the output in bfloat16.
LawResult precision(const LawSubject& subject) {
  const at::NoGradGuard no_grad;
  const auto layer = make_layer(subject, at::kFloat);
  const Tensor x = random_tensor(subject, {2, 33, subject.width}, at::kFloat, "x").to(at::kBFloat16);
  const Tensor wide = run_plain(*layer, x.to(at::kFloat), nullptr);
  State state = fresh_state(subject, *layer, 2, at::kBFloat16);
  const Tensor narrow = run_plain(*layer, x, &state);
  Worst worst;
  worst.add(rms_error(narrow, wide), "outputs");
  if (narrow.scalar_type() != at::kBFloat16) worst.add(INFINITY, "the output is not bfloat16");
  return worst.result("precision", 0.05, "rel-RMS error");
}

}  // namespace hippodrome::law_checks
