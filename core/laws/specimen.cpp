#include "core/laws/specimen.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>

#include "core/layer/segments.h"

namespace hippodrome::law_checks {

std::unique_ptr<Layer> make_layer(const LawSubject& subject, at::ScalarType dtype, const std::string& kernel) {
  const auto entry = subject.registry->layer(subject.layer);
  TORCH_CHECK(entry.ok(), std::string(entry.status().message()));
  ConfigValue config = subject.config;
  if (!kernel.empty()) config.set("kernel", ConfigValue(kernel));
  auto layer = (*entry)->make(config, subject.layer, law_site(subject));
  TORCH_CHECK(layer.ok(), std::string(layer.status().message()));
  Parameters& parameters = (*layer)->parameters();
  parameters.materialise(/*seed=*/7, dtype);
  const at::NoGradGuard no_grad;
  LawSubject on_host = subject;
  on_host.device = at::kCPU;
  for (const ParameterPtr& parameter : parameters.list()) {
    parameter->value.add_(random_tensor(on_host, parameter->value.sizes().vec(), dtype, parameter->name), 0.1);
  }
  parameters.move_to(subject.device);
  return std::move(*layer);
}

Tensor random_tensor(const LawSubject& subject, std::vector<int64_t> sizes, at::ScalarType dtype,
                     const std::string& name) {
  Tensor values = at::empty(sizes, at::kDouble);
  initialise::normal(1.0)(values, RandomStream(11, name));
  return values.to(dtype).to(subject.device);
}

Site law_site(const LawSubject& subject) {
  return {.name = "laws",
          .width = subject.width,
          .output_width = subject.width,
          .repeat = 1,
          .repeats = 3,
          .blocks = 6,
          .memory_width = kMemoryWidth};
}

Memory law_memory(int64_t rows, const at::TensorOptions& options, int64_t first, bool padded) {
  Tensor values = at::empty({first + rows, kMemoryLength, kMemoryWidth}, at::kDouble);
  initialise::normal(1.0)(values, RandomStream(11, "memory"));
  Tensor positions = at::arange(kMemoryLength, at::kLong).repeat({first + rows, 1});
  for (int64_t row = 1; padded && row < first + rows; row += 2) {
    positions[row][kMemoryLength - 1].fill_(-1);
    values[row][kMemoryLength - 1].fill_(0.0);
  }
  return {values.narrow(0, first, rows).to(options), positions.narrow(0, first, rows).to(options.device()), padded};
}

State fresh_state(const LawSubject& subject, const Layer& layer, int64_t rows, at::ScalarType dtype, int64_t first,
                  const Memory* memory) {
  const auto options = at::TensorOptions().dtype(dtype).device(subject.device);
  const Memory usual = law_memory(rows, options, first);
  return layer.initial_state({rows, 0, options, layer.traits().needs_memory ? (memory ? memory : &usual) : nullptr});
}

Tensor run_pieces(Layer& layer, const Tensor& x, const std::vector<int64_t>& pieces, State* state, int64_t start) {
  std::vector<Tensor> outputs;
  int64_t done = 0;
  for (const int64_t length : pieces) {
    outputs.push_back(run_plain(layer, x.narrow(1, done, length), state, start + done));
    done += length;
  }
  return at::cat(outputs, 1);
}

Tensor run_plain(Layer& layer, const Tensor& x, State* state, int64_t start, int64_t first_row) {
  Context context = Context::plain(x.size(0), x.size(1), start, x.device());
  const Memory memory = law_memory(x.size(0), x.options(), first_row);
  if (layer.traits().needs_memory) context.memory = &memory;
  return run_layer(layer, x, context, state);
}

Tensor run_ragged(Layer& layer, const Tensor& x, const std::vector<std::vector<int64_t>>& positions, State* state) {
  Context context;
  std::vector<int64_t> flat;
  for (const auto& row : positions) flat.insert(flat.end(), row.begin(), row.end());
  context.positions = at::tensor(flat, at::kLong).view({x.size(0), x.size(1)}).to(x.device());
  context.ragged = true;
  const Memory memory = law_memory(x.size(0), x.options());
  if (layer.traits().needs_memory) context.memory = &memory;
  return run_layer(layer, x, context, state);
}

double relative_error(const Tensor& a, const Tensor& b) {
  if (a.sizes() != b.sizes()) return INFINITY;  // a − b would be broadcast
  if (a.numel() == 0) return 0.0;
  const Tensor wide_a = a.detach().to(at::kCPU, at::kDouble), wide_b = b.detach().to(at::kCPU, at::kDouble);
  const double scale = std::max(1.0, wide_b.abs().max().item().toDouble());
  const double difference = wide_a.sub(wide_b).abs().max().item().toDouble();
  return std::isnan(difference) ? INFINITY : difference / scale;
}

double rms_error(const Tensor& a, const Tensor& b) {
  if (a.sizes() != b.sizes()) return INFINITY;
  const Tensor wide_a = a.detach().to(at::kCPU, at::kDouble), wide_b = b.detach().to(at::kCPU, at::kDouble);
  const double size = wide_b.norm().item().toDouble(), error = wide_a.sub(wide_b).norm().item().toDouble();
  return std::isnan(error) ? INFINITY : error / std::max(size, 1e-30);
}

bool same_bits(const Tensor& a, const Tensor& b) { return at::equal(a, b); }

std::vector<Tensor> gradients(Layer& layer, const Tensor& x, const Tensor& y, const Tensor& weights) {
  y.mul(weights).sum().backward();
  std::vector<Tensor> result;
  const auto take = [&result](Tensor& leaf) {
    result.push_back(leaf.grad().defined() ? leaf.grad().clone() : at::zeros_like(leaf));
    leaf.mutable_grad() = Tensor();
  };
  Tensor leaf = x;
  take(leaf);
  for (const ParameterPtr& parameter : layer.parameters().list()) take(parameter->value);
  return result;
}

void Worst::add(double error, const std::string& what) {
  if (!(error <= error_)) {  // also true for NaN
    error_ = std::isnan(error) ? INFINITY : error;
    what_ = what;
  }
}

LawResult Worst::result(std::string law, double bound, std::string unit) const {
  return {std::move(law), error_ <= bound, true, error_, bound, std::move(unit), what_};
}

LawResult not_applicable(std::string law, std::string why) {
  return {std::move(law), true, false, 0.0, 0.0, "", std::move(why)};
}

}  // namespace hippodrome::law_checks
