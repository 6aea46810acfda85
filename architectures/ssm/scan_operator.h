// How LibTorch sees a scan that has a fused kernel and a reference: adapters from the dispatcher's argument lists, and
// autograd. The scans differ in their arguments alone. For an operator of the name NAME these are
// registered:
//
//   NAME, NAME_reference              arguments -> (y, last_state); can be differentiated once
//   _NAME_forward                     arguments -> (y, last_state, checkpoints); has no derivative
//   _NAME_backward,
//   _NAME_reference_backward          (grad_y, grad_last_state, arguments, checkpoints) -> gradients; has no derivative
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <array>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "core/tensor/op_binding.h"

namespace hippodrome {

// `Scan` has
//   kName
//   Parameters         the function type void(const Tensor& u, …) of the arguments in the schema's order
//   forward_cpu(arguments, reference, keep), forward_meta(arguments, keep)   with members y, last_state, checkpoints
//   backward_cpu(grad_y, grad_last_state, arguments, checkpoints, reference), backward_meta(arguments)
//                      with nine members: the gradients of the first nine tensors among the arguments, in their order
//   kGradients         where they are not nine: how many, in a std::array
// where `arguments` is an aggregate of the parameters in their order. Checkpoints are what backward wants kept of
// forward.
template <class Scan, class Parameters = typename Scan::Parameters>
struct ScanOperator;

namespace scan_operator_detail {

template <class Scan>
constexpr size_t kGradientsOf = 9;
template <class Scan>
requires requires { Scan::kGradients; }
constexpr size_t kGradientsOf<Scan> = Scan::kGradients;

template <size_t>
using TensorOf = Tensor;
template <size_t... I>
std::tuple<TensorOf<I>...> tensors(std::index_sequence<I...>);
template <size_t kCount>
using Tensors = decltype(tensors(std::make_index_sequence<kCount>()));

}  // namespace scan_operator_detail

template <class Scan, class... P>
struct ScanOperator<Scan, void(P...)> {
  using variable_list = torch::autograd::variable_list;
  using AutogradContext = torch::autograd::AutogradContext;
  using YAndState = std::tuple<Tensor, Tensor>;
  using YStateAndCheckpoints = std::tuple<Tensor, Tensor, Tensor>;
  using Gradients = scan_operator_detail::Tensors<scan_operator_detail::kGradientsOf<Scan>>;

  // ---- kernels ----

  template <bool kReference>
  static YAndState scan_cpu(P... p) {
    const auto out = Scan::forward_cpu({p...}, kReference, false);
    return {out.y, out.last_state};
  }
  static YAndState scan_meta(P... p) {
    const auto out = Scan::forward_meta({p...}, false);
    return {out.y, out.last_state};
  }
  static YStateAndCheckpoints kept_cpu(P... p) {
    const auto out = Scan::forward_cpu({p...}, false, true);
    return {out.y, out.last_state, out.checkpoints};
  }
  static YStateAndCheckpoints kept_meta(P... p) {
    const auto out = Scan::forward_meta({p...}, true);
    return {out.y, out.last_state, out.checkpoints};
  }
  template <bool kReference>
  static Gradients gradients_cpu(const OptionalTensor& grad_y, const OptionalTensor& grad_last_state, P... p,
                                 const OptionalTensor& checkpoints) {
    return tuple_of(Scan::backward_cpu(grad_y, grad_last_state, {p...}, checkpoints, kReference));
  }
  static Gradients gradients_meta(const OptionalTensor&, const OptionalTensor&, P... p, const OptionalTensor&) {
    return tuple_of(Scan::backward_meta({p...}));
  }
  template <class InputGradients>
  static Gradients tuple_of(const InputGradients& gradients) {
    const auto& [g0, g1, g2, g3, g4, g5, g6, g7, g8] = gradients;
    return {g0, g1, g2, g3, g4, g5, g6, g7, g8};
  }
  template <size_t kCount>
  static Gradients tuple_of(const std::array<Tensor, kCount>& gradients) {
    return std::apply([](const auto&... g) { return Gradients{g...}; }, gradients);
  }

  // ---- calls through the dispatcher ----

  template <class Signature>
  static auto find(const char* prefix, const char* suffix) {
    return find_op<Signature>((std::string("hippodrome::") + prefix + Scan::kName + suffix).c_str());
  }
  static YAndState call_scan(bool reference, P... p) {
    static const auto fused_op = find<YAndState(P...)>("", "");
    static const auto reference_op = find<YAndState(P...)>("", "_reference");
    return (reference ? reference_op : fused_op).call(p...);
  }
  static YStateAndCheckpoints call_kept(P... p) {
    static const auto op = find<YStateAndCheckpoints(P...)>("_", "_forward");
    return op.call(p...);
  }
  static Gradients call_backward(bool reference, const OptionalTensor& grad_y, const OptionalTensor& grad_last_state,
                                 P... p, const OptionalTensor& checkpoints) {
    using Signature = Gradients(const OptionalTensor&, const OptionalTensor&, P..., const OptionalTensor&);
    static const auto fused_op = find<Signature>("_", "_backward");
    static const auto reference_op = find<Signature>("_", "_reference_backward");
    return (reference ? reference_op : fused_op).call(grad_y, grad_last_state, p..., checkpoints);
  }

  // ---- autograd ----

  template <class T>
  static constexpr bool kIsTensor =
      std::is_same_v<std::decay_t<T>, Tensor> || std::is_same_v<std::decay_t<T>, OptionalTensor>;

  // Argument i is kept in place i of the saved variables, or under its number where it is no tensor.
  template <class T>
  static void save(AutogradContext* context, variable_list& variables, const T& argument) {
    if constexpr (kIsTensor<T>) {
      variables.push_back(or_undefined(argument));
    } else {
      context->saved_data[std::to_string(variables.size())] = argument;
      variables.emplace_back();
    }
  }
  template <class T>
  static std::decay_t<T> saved(AutogradContext* context, const variable_list& variables, size_t i) {
    if constexpr (std::is_same_v<std::decay_t<T>, OptionalTensor>) {
      return if_defined(variables[i]);
    } else if constexpr (kIsTensor<T>) {
      return variables[i];
    } else {
      return context->saved_data[std::to_string(i)].template to<std::decay_t<T>>();
    }
  }

  template <bool kReference>
  struct Differentiable : torch::autograd::Function<Differentiable<kReference>> {
    static variable_list forward(AutogradContext* context, P... p) {
      const at::AutoDispatchBelowADInplaceOrView below;
      Tensor y, last_state, checkpoints;
      if constexpr (kReference) {
        std::tie(y, last_state) = call_scan(true, p...);
      } else {
        std::tie(y, last_state, checkpoints) = call_kept(p...);
      }
      variable_list variables;
      (save(context, variables, p), ...);
      variables.push_back(checkpoints);
      context->save_for_backward(std::move(variables));
      context->set_materialize_grads(false);
      return {y, last_state};
    }

    static variable_list backward(AutogradContext* context, const variable_list& grad) {
      variable_list result(sizeof...(P));
      if (!grad[0].defined() && !grad[1].defined()) return result;
      const variable_list variables = context->get_saved_variables();
      const auto call = [&]<size_t... I>(std::index_sequence<I...>) {
        return call_backward(kReference, if_defined(grad[0]), if_defined(grad[1]), saved<P>(context, variables, I)...,
                             if_defined(variables.back()));
      };
      const variable_list in_order = as_list(call(std::index_sequence_for<P...>()));
      size_t place = 0, next = 0;
      for (const bool is_tensor : {kIsTensor<P>...}) {
        if (is_tensor && next < in_order.size()) {
          if (variables[place].defined()) result[place] = in_order[next];
          ++next;
        }
        ++place;
      }
      return result;
    }
  };

  template <bool kReference>
  static YAndState scan_autograd(P... p) {
    const auto wants = [](const auto& argument) {
      if constexpr (kIsTensor<decltype(argument)>) return requires_grad(argument);
      return false;
    };
    if (!at::GradMode::is_enabled() || !(wants(p) || ...)) {
      const at::AutoDispatchBelowADInplaceOrView below;
      return call_scan(kReference, p...);
    }
    const variable_list out = Differentiable<kReference>::apply(p...);
    return {out[0], out[1]};
  }

  // What has no derivative of its own runs below autograd, and an error hangs on its results.
  template <bool kReference>
  struct Backward : torch::autograd::Function<Backward<kReference>> {
    static variable_list forward(AutogradContext*, const OptionalTensor& grad_y, const OptionalTensor& grad_last_state,
                                 P... p, const OptionalTensor& checkpoints) {
      const at::AutoDispatchBelowADInplaceOrView below;
      return as_list(call_backward(kReference, grad_y, grad_last_state, p..., checkpoints));
    }
    static variable_list backward(AutogradContext*, const variable_list&) {
      TORCH_CHECK(false, Scan::kName,
                  " can be differentiated once only: its backward has no derivative. Call backward without "
                  "create_graph=true, or differentiate ",
                  Scan::kName, " itself");
    }
  };
  template <bool kReference>
  static Gradients backward_autograd(const OptionalTensor& grad_y, const OptionalTensor& grad_last_state, P... p,
                                     const OptionalTensor& checkpoints) {
    return as_tuple<Gradients>(Backward<kReference>::apply(grad_y, grad_last_state, p..., checkpoints));
  }

  struct Kept : torch::autograd::Function<Kept> {
    static variable_list forward(AutogradContext*, P... p) {
      const at::AutoDispatchBelowADInplaceOrView below;
      return as_list(call_kept(p...));
    }
    static variable_list backward(AutogradContext*, const variable_list&) {
      TORCH_CHECK(false, "_", Scan::kName, "_forward has no derivative of its own: call ", Scan::kName);
    }
  };
  static YStateAndCheckpoints kept_autograd(P... p) { return as_tuple<YStateAndCheckpoints>(Kept::apply(p...)); }

  template <class Tuple>
  static variable_list as_list(const Tuple& tensors) {
    return std::apply([](const auto&... t) { return variable_list{t...}; }, tensors);
  }
  template <class Tuple>
  static Tuple as_tuple(const variable_list& tensors) {
    const auto make = [&]<size_t... I>(std::index_sequence<I...>) { return Tuple{tensors[I]...}; };
    return make(std::make_index_sequence<std::tuple_size_v<Tuple>>());
  }

  // ---- registration ----

  static void implement_on_cpu(torch::Library& m) {
    implement(m, scan_cpu<false>, scan_cpu<true>, kept_cpu, gradients_cpu<false>, gradients_cpu<true>);
  }
  static void implement_on_meta(torch::Library& m) {
    implement(m, scan_meta, scan_meta, kept_meta, gradients_meta, gradients_meta);
  }
  static void implement_autograd(torch::Library& m) {
    implement(m, scan_autograd<false>, scan_autograd<true>, kept_autograd, backward_autograd<false>,
              backward_autograd<true>);
  }

 private:
  template <class ScanFunction, class KeptFunction, class BackwardFunction>
  static void implement(torch::Library& m, ScanFunction* fused, ScanFunction* reference, KeptFunction* kept,
                        BackwardFunction* backward, BackwardFunction* reference_backward) {
    const std::string name = Scan::kName;
    m.impl(name.c_str(), fused);
    m.impl((name + "_reference").c_str(), reference);
    m.impl(("_" + name + "_forward").c_str(), kept);
    m.impl(("_" + name + "_backward").c_str(), backward);
    m.impl(("_" + name + "_reference_backward").c_str(), reference_backward);
  }
};

}  // namespace hippodrome
