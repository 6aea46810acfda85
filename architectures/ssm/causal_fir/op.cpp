// hippodrome::causal_fir: schema, checks, autograd, meta and the CPU binding.
#include "architectures/ssm/causal_fir/op.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "architectures/ssm/causal_fir/binding.h"
#include "architectures/ssm/causal_fir/causal_fir.h"
#include "architectures/ssm/causal_fir/reference.h"
#include "core/tensor/flop_meter.h"
#include "core/tensor/op_binding.h"

namespace hippodrome {
namespace causal_fir_op {
namespace {

template <class T>
Outputs run_forward(const Tensor& x_in, const Tensor& weight_in, const OptionalTensor& state_in,
                    const OptionalTensor& positions_in, bool reference) {
  const auto dtype = compute_dtype(x_in);
  const Tensor x = in_compute_dtype(x_in, dtype), weight = in_compute_dtype(weight_in, dtype);
  const Tensor state = in_compute_dtype(state_in, dtype);
  const Tensor positions = contiguous_if_given(positions_in);
  auto [y, last_state] = make_outputs(x_in, weight, dtype);
  const CausalFirForward<T> p{x.size(0),
                              x.size(2),
                              x.size(1),
                              weight.size(0),
                              x.const_data_ptr<T>(),
                              weight.const_data_ptr<T>(),
                              data_or_null<T>(state),
                              data_or_null<int64_t>(positions),
                              y.mutable_data_ptr<T>(),
                              last_state.mutable_data_ptr<T>()};
  if (reference) {
    run_counted(p, [](const auto& params) { causal_fir_forward_reference(params); });
  } else if (p.length == 1) {
    at::parallel_for(0, p.batch * causal_fir_step_blocks(p.channels), grain(2 * p.taps * kCausalFirStepBlock),
                     [&](int64_t begin, int64_t end) { causal_fir_step(p, begin, end); });
  } else {
    at::parallel_for(0, causal_fir_groups(p.channels) * p.batch, grain(p.length * p.taps * kCausalFirGroup),
                     [&](int64_t begin, int64_t end) { causal_fir_forward(p, begin, end); });
  }
  return {y.to(x_in.scalar_type()), last_state};
}

Outputs forward_cpu(const Tensor& x, const Tensor& weight, const OptionalTensor& state, const OptionalTensor& positions,
                    bool reference) {
  check(x, weight, state, positions);
  return compute_dtype(x) == at::kDouble ? run_forward<double>(x, weight, state, positions, reference)
                                         : run_forward<float>(x, weight, state, positions, reference);
}

Outputs forward_meta(const Tensor& x, const Tensor& weight, const OptionalTensor& state,
                     const OptionalTensor& positions, bool) {
  check(x, weight, state, positions);
  return make_outputs(x, weight, x.scalar_type());
}

template <class T>
Gradients run_backward(const Tensor& grad_y_in, const Tensor& grad_last_state_in, const Tensor& x_in,
                       const Tensor& weight_in, const OptionalTensor& state_in, const OptionalTensor& positions_in,
                       bool reference) {
  const auto dtype = compute_dtype(x_in);
  const Tensor x = in_compute_dtype(x_in, dtype), weight = in_compute_dtype(weight_in, dtype);
  const Tensor state = in_compute_dtype(state_in, dtype), grad_y = in_compute_dtype(grad_y_in, dtype);
  const Tensor grad_last_state = in_compute_dtype(grad_last_state_in, dtype);
  const Tensor positions = contiguous_if_given(positions_in);
  Gradients gradients = make_gradients(x_in, weight);
  const CausalFirBackward<T> p{x.size(0),
                               x.size(2),
                               x.size(1),
                               weight.size(0),
                               x.const_data_ptr<T>(),
                               weight.const_data_ptr<T>(),
                               data_or_null<T>(state),
                               data_or_null<int64_t>(positions),
                               grad_y.const_data_ptr<T>(),
                               grad_last_state.const_data_ptr<T>(),
                               std::get<0>(gradients).mutable_data_ptr<T>(),
                               std::get<1>(gradients).mutable_data_ptr<T>(),
                               std::get<2>(gradients).mutable_data_ptr<T>()};
  if (reference) {
    causal_fir_backward_reference(p);
  } else {
    at::parallel_for(0, causal_fir_groups(p.channels), grain(2 * p.batch * p.length * p.taps * kCausalFirGroup),
                     [&](int64_t begin, int64_t end) { causal_fir_backward(p, begin, end); });
  }
  return gradients;
}

Gradients backward_cpu(const Tensor& grad_y, const Tensor& grad_last_state, const Tensor& x, const Tensor& weight,
                       const OptionalTensor& state, const OptionalTensor& positions, bool reference) {
  return compute_dtype(x) == at::kDouble
             ? run_backward<double>(grad_y, grad_last_state, x, weight, state, positions, reference)
             : run_backward<float>(grad_y, grad_last_state, x, weight, state, positions, reference);
}

Gradients backward_meta(const Tensor&, const Tensor&, const Tensor& x, const Tensor& weight, const OptionalTensor&,
                        const OptionalTensor&, bool) {
  return make_gradients(x, weight);
}

Outputs call_forward(const Tensor& x, const Tensor& weight, const OptionalTensor& state,
                     const OptionalTensor& positions, bool reference) {
  static const auto op = find_op<decltype(forward_cpu)>("hippodrome::_causal_fir_forward");
  return op.call(x, weight, state, positions, reference);
}

class CausalFir : public torch::autograd::Function<CausalFir> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context, const Tensor& x,
                                                const Tensor& weight, const OptionalTensor& state,
                                                const OptionalTensor& positions, bool reference) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [y, last_state] = call_forward(x, weight, state, positions, reference);
    context->save_for_backward({x, weight, or_undefined(state), or_undefined(positions)});
    context->saved_data["reference"] = reference;
    return {y, last_state};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    static const auto op = find_op<decltype(backward_cpu)>("hippodrome::_causal_fir_backward");
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &state = saved[2];
    auto [grad_x, grad_weight, grad_state] = op.call(grads[0], grads[1], x, weight, if_defined(state),
                                                     if_defined(saved[3]), context->saved_data["reference"].toBool());
    return {grad_x.to(x.scalar_type()), grad_weight.to(weight.scalar_type()),
            state.defined() ? grad_state.to(state.scalar_type()) : Tensor(), Tensor(), Tensor()};
  }
};

template <bool kReference>
Outputs without_autograd(const Tensor& x, const Tensor& weight, const OptionalTensor& state,
                         const OptionalTensor& positions) {
  return call_forward(x, weight, state, positions, kReference);
}

template <bool kReference>
Outputs with_autograd(const Tensor& x, const Tensor& weight, const OptionalTensor& state,
                      const OptionalTensor& positions) {
  if (!wants_gradient(x, weight, state)) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return without_autograd<kReference>(x, weight, state, positions);
  }
  const auto outputs = CausalFir::apply(x, weight, state, positions, kReference);
  return {outputs[0], outputs[1]};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(hippodrome, m) {
  m.def(
      "causal_fir(Tensor x, Tensor weight, Tensor? state=None, Tensor? positions=None)"
      " -> (Tensor y, Tensor last_state)");
  m.def(
      "causal_fir_reference(Tensor x, Tensor weight, Tensor? state=None, Tensor? positions=None)"
      " -> (Tensor y, Tensor last_state)");
  m.def(
      "_causal_fir_forward(Tensor x, Tensor weight, Tensor? state, Tensor? positions, bool reference)"
      " -> (Tensor y, Tensor last_state)");
  m.def(
      "_causal_fir_backward(Tensor grad_y, Tensor grad_last_state, Tensor x, Tensor weight, Tensor? state,"
      " Tensor? positions, bool reference) -> (Tensor grad_x, Tensor grad_weight, Tensor grad_state)");
}

TORCH_LIBRARY_IMPL(hippodrome, CompositeExplicitAutograd, m) {
  m.impl("causal_fir", without_autograd<false>);
  m.impl("causal_fir_reference", without_autograd<true>);
}

TORCH_LIBRARY_IMPL(hippodrome, Autograd, m) {
  m.impl("causal_fir", with_autograd<false>);
  m.impl("causal_fir_reference", with_autograd<true>);
  m.impl("_causal_fir_forward", torch::autograd::autogradNotImplementedFallback());
  m.impl("_causal_fir_backward", torch::autograd::autogradNotImplementedFallback());
}

TORCH_LIBRARY_IMPL(hippodrome, CPU, m) {
  m.impl("_causal_fir_forward", forward_cpu);
  m.impl("_causal_fir_backward", backward_cpu);
}

TORCH_LIBRARY_IMPL(hippodrome, Meta, m) {
  m.impl("_causal_fir_forward", forward_meta);
  m.impl("_causal_fir_backward", backward_meta);
}

}  // namespace causal_fir_op

std::tuple<at::Tensor, at::Tensor> causal_fir(const at::Tensor& x, const at::Tensor& weight,
                                              const std::optional<at::Tensor>& state,
                                              const std::optional<at::Tensor>& positions, bool reference) {
  using Signature = decltype(causal_fir_op::without_autograd<false>);
  static const auto fused = find_op<Signature>("hippodrome::causal_fir");
  static const auto plain = find_op<Signature>("hippodrome::causal_fir_reference");
  return (reference ? plain : fused).call(x, weight, state, positions);
}

}  // namespace hippodrome
