#include "core/layer/parameters.h"

#include <ATen/Dispatch.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_qr.h>

#include <cmath>

namespace hippodrome {

Tensor Parameter::cast(const Tensor& like) const {
  const auto dtype = like.scalar_type();
  if (value.scalar_type() == dtype || (facts.keep_float32 && dtype != at::kDouble)) {
    return value;
  }
  return value.to(dtype);
}

ParameterPtr Parameters::add(std::string name, std::vector<int64_t> shape, Initialiser initialiser,
                             ParameterFacts facts) {
  TORCH_CHECK(find(name) == nullptr, "parameter \"", name, "\" is declared twice");
  const auto meta = at::TensorOptions().dtype(at::kFloat).device(at::kMeta);
  list_.push_back(std::make_shared<Parameter>(
      Parameter{std::move(name), at::empty(shape, meta), std::move(initialiser), facts}));
  return list_.back();
}

void Parameters::adopt(std::string_view prefix, Parameters& child) {
  for (const ParameterPtr& parameter : child.list_) {
    bool known = false;
    for (const ParameterPtr& mine : list_) {
      known = known || mine == parameter;
    }
    if (known) continue;
    if (!prefix.empty()) parameter->name = std::string(prefix) + "." + parameter->name;
    TORCH_CHECK(find(parameter->name) == nullptr, "parameter \"", parameter->name, "\" is declared twice");
    list_.push_back(parameter);
  }
}

ParameterPtr Parameters::find(std::string_view name) const {
  for (const ParameterPtr& parameter : list_) {
    if (parameter->name == name) return parameter;
  }
  return nullptr;
}

int64_t Parameters::count() const {
  int64_t total = 0;
  for (const ParameterPtr& parameter : list_) {
    total += parameter->value.numel();
  }
  return total;
}

void Parameters::materialise(uint64_t seed, const at::TensorOptions& options) {
  const at::NoGradGuard no_grad;
  for (const ParameterPtr& parameter : list_) {
    Tensor value = at::empty(parameter->value.sizes(), options.device(at::kCPU));
    parameter->initialiser(value, RandomStream(seed, parameter->name));
    parameter->value = value.to(options.device());
  }
}

void Parameters::allocate(const at::TensorOptions& options) {
  for (const ParameterPtr& parameter : list_) {
    parameter->value = at::empty(parameter->value.sizes(), options);
  }
}

void Parameters::move_to(at::Device device) {
  for (const ParameterPtr& parameter : list_) {
    parameter->value = parameter->value.detach().to(device).set_requires_grad(parameter->value.requires_grad());
  }
}

void Parameters::set_requires_grad(bool requires_grad) {
  for (const ParameterPtr& parameter : list_) {
    parameter->value.requires_grad_(requires_grad);
  }
}

namespace initialise {
namespace {

// value.view(-1)[i] = f(i), computed in double.
void fill_elements(Tensor& value, const std::function<double(int64_t)>& f) {
  AT_DISPATCH_FLOATING_TYPES(value.scalar_type(), "initialise", [&] {
    scalar_t* data = value.mutable_data_ptr<scalar_t>();
    for (int64_t i = 0; i < value.numel(); ++i) {
      data[i] = static_cast<scalar_t>(f(i));
    }
  });
}

}  // namespace

Initialiser constant(double constant) {
  return [constant](Tensor& value, RandomStream) { value.fill_(constant); };
}

Initialiser uniform(double low, double high) {
  return [low, high](Tensor& value, RandomStream stream) {
    fill_elements(value, [&](int64_t i) { return low + (high - low) * stream.uniform_at(static_cast<uint64_t>(i)); });
  };
}

Initialiser normal(double standard_deviation) {
  return [standard_deviation](Tensor& value, RandomStream stream) {
    fill_elements(value, [&](int64_t i) { return standard_deviation * stream.normal_at(static_cast<uint64_t>(i)); });
  };
}

Initialiser uniform_fan_in(int64_t fan_in) {
  const double bound = 1.0 / std::sqrt(static_cast<double>(fan_in));
  return uniform(-bound, bound);
}

Initialiser orthogonal(double gain) {
  return [gain](Tensor& value, RandomStream stream) {
    const int64_t columns = value.size(-1), rows = value.numel() / columns;
    Tensor gaussian = at::empty({std::max(rows, columns), std::min(rows, columns)}, at::kDouble);
    normal(1.0)(gaussian, stream);
    const auto [q, r] = at::linalg_qr(gaussian);
    // Signs of R's diagonal make the draw uniform over the orthogonal group (Mezzadri 2007).
    const Tensor signed_q = q.mul(r.diagonal().sign());
    value.copy_((rows < columns ? signed_q.t() : signed_q).mul(gain).reshape(value.sizes()));
  };
}

Initialiser from_index(std::function<double(int64_t)> f) {
  return [f = std::move(f)](Tensor& value, RandomStream) { fill_elements(value, f); };
}

Initialiser scaled(Initialiser inner, double factor) {
  return [inner = std::move(inner), factor](Tensor& value, RandomStream stream) {
    inner(value, stream);
    value.mul_(factor);
  };
}

}  // namespace initialise
}  // namespace hippodrome
