#include "core/layer/layer.h"

#include <ATen/ops/arange.h>

namespace hippodrome {

Context Context::plain(int64_t rows, int64_t length, int64_t start, at::Device device) {
  Context context;
  const auto options = at::TensorOptions().dtype(at::kLong).device(device);
  context.positions = at::arange(start, start + length, options).expand({rows, length});
  return context;
}

std::string_view kernel_class_name(KernelClass kernel_class) {
  switch (kernel_class) {
    case KernelClass::kReference: return "reference";
    case KernelClass::kLibrary: return "library";
    case KernelClass::kFused: return "fused";
  }
  return "";
}

Cost& Cost::operator+=(const Cost& other) {
  flops += other.flops;
  bytes_moved += other.bytes_moved;
  state_bytes += other.state_bytes;
  saved_bytes += other.saved_bytes;
  return *this;
}

void Observer::auxiliary_loss(std::string_view layer, std::string_view what, const Tensor& value, double) {
  report(layer, what, value);
}

State Layer::initial_state(const StateSpec&) const { return State(); }

int64_t Layer::active_parameters() const { return parameters_.count(); }

}  // namespace hippodrome
