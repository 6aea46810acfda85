#include "core/training/adamw.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <utility>

namespace hippodrome {
struct AdamW::Group {
  std::vector<Tensor> values, gradients, first_moments, second_moments, steps;
};

AdamW::AdamW(Parameters& parameters, const Options& options) : options_(options) {
  for (const ParameterPtr& parameter : parameters.list()) {
    const Tensor zeros = at::zeros_like(parameter->value).detach();
    slots_.push_back({parameter, zeros, zeros.clone(), at::zeros({}, parameter->value.options().dtype(at::kFloat))});
  }
}

AdamW::Groups AdamW::groups() const {
  Groups groups;
  for (const Slot& slot : slots_) {
    const Tensor& gradient = slot.parameter->value.grad();
    if (!gradient.defined()) continue;
    const ParameterFacts& facts = slot.parameter->facts;
    Group& group = groups[{facts.weight_decay ? options_.weight_decay : 0.0, facts.learning_rate_scale}];
    group.values.push_back(slot.parameter->value);
    group.gradients.push_back(gradient);
    group.first_moments.push_back(slot.first_moment);
    group.second_moments.push_back(slot.second_moment);
    group.steps.push_back(slot.step);
  }
  return groups;
}

std::vector<Tensor> AdamW::gradients() const {
  std::vector<Tensor> result;
  for (const Slot& slot : slots_) {
    if (slot.parameter->value.grad().defined()) result.push_back(slot.parameter->value.grad());
  }
  return result;
}

// `learning_rate` is a number or a tensor, which LibTorch's operator takes alike.
template <class Rate>
void AdamW::update(const Rate& learning_rate) {
  for (auto& [key, group] : groups()) {
    at::_foreach_add_(group.steps, 1);
    at::_fused_adamw_(group.values, group.gradients, group.first_moments, group.second_moments, /*max_exp_avg_sqs=*/{},
                      group.steps, learning_rate * key.second, options_.beta1, options_.beta2, key.first,
                      options_.epsilon, /*amsgrad=*/false, /*maximize=*/false);
  }
  for (Slot& slot : slots_) slot.written = slot.parameter->value.grad().defined();
}

void AdamW::count_writes() {
  for (Slot& slot : slots_) {
    if (slot.written) slot.parameter->value.unsafeGetTensorImpl()->bump_version();
  }
}

void AdamW::clear_gradients() {
  for (Slot& slot : slots_) slot.parameter->value.mutable_grad() = Tensor();
}

double AdamW::step(double learning_rate, double clip_norm) {
  const at::NoGradGuard no_grad;
  const std::vector<Tensor> all = gradients();
  if (all.empty()) return 0.0;
  const double norm = at::stack(at::_foreach_norm(all)).norm().item().toDouble();
  if (clip_norm > 0.0 && norm > clip_norm) at::_foreach_mul_(all, clip_norm / norm);
  update(learning_rate);
  count_writes();
  clear_gradients();
  return norm;
}

Tensor AdamW::step_on_device(const Tensor& learning_rate, double clip_norm) {
  const at::NoGradGuard no_grad;
  const std::vector<Tensor> all = gradients();
  if (all.empty()) return at::zeros_like(learning_rate);
  const Tensor norm = at::stack(at::_foreach_norm(all)).norm();
  if (clip_norm > 0.0) at::_foreach_mul_(all, norm.reciprocal().mul(clip_norm).clamp_max(1.0));
  update(learning_rate);
  clear_gradients();
  return norm;
}

std::map<std::string, Tensor> AdamW::tensors() const {
  std::map<std::string, Tensor> result;
  for (const Slot& slot : slots_) {
    result.emplace(slot.parameter->name + ".first_moment", slot.first_moment);
    result.emplace(slot.parameter->name + ".second_moment", slot.second_moment);
    result.emplace(slot.parameter->name + ".step", slot.step);
  }
  return result;
}

absl::Status AdamW::restore(const std::map<std::string, Tensor>& tensors) {
  const at::NoGradGuard no_grad;
  for (Slot& slot : slots_) {
    for (const auto& [suffix, target] : {std::pair<std::string, Tensor*>{".first_moment", &slot.first_moment},
                                         {".second_moment", &slot.second_moment},
                                         {".step", &slot.step}}) {
      const auto found = tensors.find(slot.parameter->name + suffix);
      if (found == tensors.end() || found->second.sizes() != target->sizes()) {
        return absl::DataLossError("the optimiser's \"" + slot.parameter->name + suffix +
                                   "\" is missing or has another shape");
      }
      target->copy_(found->second);
    }
  }
  return absl::OkStatus();
}

}  // namespace hippodrome
