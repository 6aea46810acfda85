// The meta device, for tests that let it stand for a device that is not the CPU: its tensors hold no values, so that
// whoever reads one on the host is caught, and whoever mixes in one of the CPU's.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/stack.h>
#include <ATen/ops/empty_strided.h>
#include <torch/library.h>

#include <string>
#include <vector>

namespace hippodrome::meta_device {

// On the CPU, zeros of the same shape and strides; numbers stay.
inline at::Tensor as_zeros(const at::Tensor& t, const std::string& op) {
  if (!t.defined() || (t.is_cpu() && t.dim() == 0)) return t;
  TORCH_CHECK(t.is_meta(), op, ": an argument is on ", t.device(), ", others are on the meta device");
  return at::empty_strided(t.sizes(), t.strides(), t.options().device(at::kCPU)).zero_();
}

inline at::Tensor without_values(const at::Tensor& t) {
  return t.defined() ? at::empty_strided(t.sizes(), t.strides(), t.options().device(at::kMeta)) : t;
}

// Any operator on meta tensors: the CPU's, on zeros, for the shapes of its results.
inline void shapes_by_cpu(const c10::OperatorHandle& op, c10::DispatchKeySet, torch::jit::Stack* stack) {
  const c10::FunctionSchema& schema = op.schema();
  const size_t count = schema.arguments().size();
  const std::vector<c10::IValue> given(stack->end() - static_cast<std::ptrdiff_t>(count), stack->end());
  for (size_t i = 0; i < count; ++i) {
    c10::IValue& argument = (*stack)[stack->size() - count + i];
    if (argument.isTensor()) {
      argument = as_zeros(argument.toTensor(), schema.name());
    } else if (argument.isTensorList()) {
      c10::List<at::Tensor> list;
      for (const at::Tensor& t : argument.toTensorVector()) list.push_back(as_zeros(t, schema.name()));
      argument = list;
    }
  }
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  const size_t first = stack->size() - schema.returns().size();
  for (size_t i = 0; i < schema.returns().size(); ++i) {
    c10::IValue& result = (*stack)[first + i];
    if (!result.isTensor()) continue;
    const c10::AliasInfo* alias = schema.returns()[i].alias_info();
    if (alias == nullptr) {
      result = without_values(result.toTensor());
      continue;
    }
    // What is written is the argument itself.
    for (size_t k = 0; k < count; ++k) {
      const c10::AliasInfo* written = schema.arguments()[k].alias_info();
      if (written == nullptr || written->beforeSets() != alias->beforeSets()) continue;
      given[k].toTensor().resize_(result.toTensor().sizes());
      result = given[k];
      break;
    }
  }
}

// Operators whose results, or their shapes, depend on values that the host would have to wait for.
inline bool reads_values(const std::string& name) {
  for (const char* one : {"_local_scalar_dense", "equal", "nonzero", "nonzero_static", "masked_select", "bincount",
                          "_unique", "_unique2", "unique_dim", "unique_consecutive", "repeat_interleave"}) {
    if (name == std::string("aten::") + one) return true;
  }
  return false;
}

// LibTorch has the shapes of some operators only in Python. From the first call on all that the CPU has know
// theirs, but for those that read values.
inline void complete() {
  static const torch::Library added = [] {
    torch::Library library(torch::Library::IMPL, "aten", c10::DispatchKey::Meta, __FILE__, __LINE__);
    auto& dispatcher = c10::Dispatcher::singleton();
    for (const c10::OperatorName& name : dispatcher.getAllOpNames()) {
      const auto op = dispatcher.findOp(name);
      if (!op || name.name.rfind("aten::", 0) != 0) continue;
      if (reads_values(name.name)) continue;
      bool known = !op->hasKernelForDispatchKey(c10::DispatchKey::CPU);
      for (const auto key :
           {c10::DispatchKey::Meta, c10::DispatchKey::CompositeExplicitAutograd,
            c10::DispatchKey::CompositeImplicitAutograd, c10::DispatchKey::CompositeExplicitAutogradNonFunctional}) {
        known = known || op->hasKernelForDispatchKey(key);
      }
      if (known) continue;
      const std::string full = name.name + (name.overload_name.empty() ? "" : "." + name.overload_name);
      library.impl(full.c_str(), torch::CppFunction::makeFromBoxedFunction<&shapes_by_cpu>());
    }
    return library;
  }();
}

}  // namespace hippodrome::meta_device
