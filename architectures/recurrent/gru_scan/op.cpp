// hippodrome::gru_scan: schema, checks, autograd, meta and the CPU binding.
#include "architectures/recurrent/gru_scan/op.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "architectures/recurrent/gru_scan/binding.h"
#include "architectures/recurrent/gru_scan/gru_scan.h"
#include "architectures/recurrent/gru_scan/reference.h"
#include "architectures/recurrent/recurrent_product.h"
#include "core/tensor/flop_meter.h"
#include "core/tensor/op_binding.h"

namespace hippodrome {
namespace gru_scan_op {
namespace {

// Rows of the batch per thread: below about 10^5 multiply-adds a second thread costs more than it saves.
int64_t rows_per_thread(int64_t length, int64_t hidden) { return grain(3 * hidden * hidden * length); }

template <class T>
Saved run_forward(const Tensor& gates_in, const Tensor& weight_in, const Tensor& bias_in, const OptionalTensor& h0_in,
                  const OptionalTensor& positions_in, bool save, bool reference) {
  const auto dtype = compute_dtype(gates_in);
  const Tensor gates = in_compute_dtype(gates_in, dtype), weight = in_compute_dtype(weight_in, dtype);
  const Tensor bias = in_compute_dtype(bias_in, dtype), h0 = in_compute_dtype(h0_in, dtype);
  const Tensor positions = contiguous_if_given(positions_in);
  auto [y, h, activated, hidden_states] = make_outputs(gates, weight, save);
  GruScanForward<T> p{gates.size(0),
                      gates.size(1),
                      weight.size(1),
                      gates.const_data_ptr<T>(),
                      weight.const_data_ptr<T>(),
                      nullptr,
                      bias.const_data_ptr<T>(),
                      data_or_null<T>(h0),
                      data_or_null<int64_t>(positions),
                      y.mutable_data_ptr<T>(),
                      h.mutable_data_ptr<T>(),
                      save ? activated.mutable_data_ptr<T>() : nullptr,
                      save ? hidden_states.mutable_data_ptr<T>() : nullptr};
  if (reference) {
    run_counted(p, [](const auto& params) { gru_scan_forward_reference(params); });
  } else {
    Tensor packed;
    if (p.batch * p.length > kRecurrentDirectTokens) {
      packed = at::empty({recurrent_packed_elements(3, p.hidden)}, weight.options());
      gru_scan_pack(p.weight_hh, p.hidden, packed.mutable_data_ptr<T>());
      p.packed = packed.const_data_ptr<T>();
    }
    at::parallel_for(0, p.batch, rows_per_thread(p.length, p.hidden),
                     [&](int64_t begin, int64_t end) { gru_scan_forward(p, begin, end); });
  }
  return {y.to(gates_in.scalar_type()), h, activated, hidden_states};
}

Saved forward_cpu(const Tensor& gates, const Tensor& weight_hh, const Tensor& bias_hn, const OptionalTensor& h0,
                  const OptionalTensor& positions, bool save, bool reference) {
  check(gates, weight_hh, bias_hn, h0, positions);
  return compute_dtype(gates) == at::kDouble
             ? run_forward<double>(gates, weight_hh, bias_hn, h0, positions, save, reference)
             : run_forward<float>(gates, weight_hh, bias_hn, h0, positions, save, reference);
}

Saved forward_meta(const Tensor& gates, const Tensor& weight_hh, const Tensor& bias_hn, const OptionalTensor& h0,
                   const OptionalTensor& positions, bool save, bool) {
  check(gates, weight_hh, bias_hn, h0, positions);
  return make_outputs(gates, weight_hh, save);
}

template <class T>
Gradients run_backward(const Tensor& grad_y_in, const Tensor& grad_h_in, const Tensor& weight_in,
                       const Tensor& activated, const Tensor& hidden_states, const OptionalTensor& h0_in,
                       const OptionalTensor& positions_in, bool reference) {
  const auto dtype = activated.scalar_type();
  const Tensor grad_y = in_compute_dtype(grad_y_in, dtype), grad_h = in_compute_dtype(grad_h_in, dtype);
  const Tensor weight = in_compute_dtype(weight_in, dtype), h0 = in_compute_dtype(h0_in, dtype);
  const Tensor positions = contiguous_if_given(positions_in);
  const int64_t batch = activated.size(0), length = activated.size(1), hidden = weight.size(1), tokens = batch * length;
  const auto options = activated.options();
  Tensor grad_gates = at::empty({batch, length, 3 * hidden}, options), grad_h0 = at::empty({batch, hidden}, options);
  Tensor grad_weight = at::empty({3 * hidden, hidden}, options), grad_bias = at::empty({hidden}, options);
  GruScanBackward<T> p{batch,
                       length,
                       hidden,
                       weight.const_data_ptr<T>(),
                       nullptr,
                       activated.const_data_ptr<T>(),
                       hidden_states.const_data_ptr<T>(),
                       data_or_null<T>(h0),
                       data_or_null<int64_t>(positions),
                       grad_y.const_data_ptr<T>(),
                       grad_h.const_data_ptr<T>(),
                       grad_gates.mutable_data_ptr<T>(),
                       nullptr,
                       nullptr,
                       grad_weight.mutable_data_ptr<T>(),
                       grad_bias.mutable_data_ptr<T>(),
                       grad_h0.mutable_data_ptr<T>()};
  if (reference) {
    gru_scan_backward_reference(p);
    return {grad_gates, grad_weight, grad_bias, grad_h0};
  }
  Tensor packed = at::empty({recurrent_packed_elements(3, hidden)}, options);
  gru_scan_pack_adjoint(p.weight_hh, hidden, packed.mutable_data_ptr<T>());
  p.packed = packed.const_data_ptr<T>();
  Tensor grad_q = at::empty({tokens, hidden}, options), previous_h = at::empty({tokens, hidden}, options);
  p.grad_q = grad_q.mutable_data_ptr<T>();
  p.previous_h = previous_h.mutable_data_ptr<T>();
  at::parallel_for(0, batch, rows_per_thread(length, hidden),
                   [&](int64_t begin, int64_t end) { gru_scan_backward(p, begin, end); });
  Tensor weight_rz = grad_weight.slice(0, 0, 2 * hidden), weight_n = grad_weight.slice(0, 2 * hidden, 3 * hidden);
  at::mm_out(weight_rz, grad_gates.view({tokens, 3 * hidden}).slice(1, 0, 2 * hidden).t(), previous_h);
  at::mm_out(weight_n, grad_q.t(), previous_h);
  return {grad_gates, grad_weight, grad_q.sum(0), grad_h0};
}

Gradients backward_cpu(const Tensor& grad_y, const Tensor& grad_h, const Tensor& weight_hh, const Tensor& activated,
                       const Tensor& hidden_states, const OptionalTensor& h0, const OptionalTensor& positions,
                       bool reference) {
  return activated.scalar_type() == at::kDouble
             ? run_backward<double>(grad_y, grad_h, weight_hh, activated, hidden_states, h0, positions, reference)
             : run_backward<float>(grad_y, grad_h, weight_hh, activated, hidden_states, h0, positions, reference);
}

Gradients backward_meta(const Tensor&, const Tensor& grad_h, const Tensor& weight_hh, const Tensor& activated,
                        const Tensor&, const OptionalTensor&, const OptionalTensor&, bool) {
  const auto options = activated.options();
  const auto hidden = weight_hh.sym_size(1);
  return {at::empty_symint({activated.sym_size(0), activated.sym_size(1), 3 * hidden}, options),
          at::empty_symint(weight_hh.sym_sizes(), options), at::empty_symint({hidden}, options),
          at::empty_symint(grad_h.sym_sizes(), options)};
}

Saved call_forward(const Tensor& gates, const Tensor& weight_hh, const Tensor& bias_hn, const OptionalTensor& h0,
                   const OptionalTensor& positions, bool save, bool reference) {
  static const auto op = find_op<decltype(forward_cpu)>("hippodrome::_gru_scan_forward");
  return op.call(gates, weight_hh, bias_hn, h0, positions, save, reference);
}

class GruScan : public torch::autograd::Function<GruScan> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context, const Tensor& gates,
                                                const Tensor& weight_hh, const Tensor& bias_hn,
                                                const OptionalTensor& h0, const OptionalTensor& positions,
                                                bool reference) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [y, h, activated, hidden_states] = call_forward(gates, weight_hh, bias_hn, h0, positions, true, reference);
    context->save_for_backward({weight_hh, activated, hidden_states, or_undefined(h0), or_undefined(positions)});
    context->saved_data["reference"] = reference;
    context->saved_data["gates"] = static_cast<int64_t>(gates.scalar_type());
    context->saved_data["bias"] = static_cast<int64_t>(bias_hn.scalar_type());
    return {y, h};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    static const auto op = find_op<decltype(backward_cpu)>("hippodrome::_gru_scan_backward");
    const auto saved = context->get_saved_variables();
    const Tensor &weight_hh = saved[0], &h0 = saved[3], &positions = saved[4];
    const auto dtype = [&](const char* name) { return static_cast<at::ScalarType>(context->saved_data[name].toInt()); };
    auto [gates, weight, bias, initial_h] = op.call(grads[0], grads[1], weight_hh, saved[1], saved[2], if_defined(h0),
                                                    if_defined(positions), context->saved_data["reference"].toBool());
    return {gates.to(dtype("gates")),
            weight.to(weight_hh.scalar_type()),
            bias.to(dtype("bias")),
            h0.defined() ? initial_h.to(h0.scalar_type()) : Tensor(),
            Tensor(),
            Tensor()};
  }
};

template <bool kReference>
Outputs without_autograd(const Tensor& gates, const Tensor& weight_hh, const Tensor& bias_hn, const OptionalTensor& h0,
                         const OptionalTensor& positions) {
  auto [y, h, activated, hidden_states] = call_forward(gates, weight_hh, bias_hn, h0, positions, false, kReference);
  return {y, h};
}

template <bool kReference>
Outputs with_autograd(const Tensor& gates, const Tensor& weight_hh, const Tensor& bias_hn, const OptionalTensor& h0,
                      const OptionalTensor& positions) {
  if (!wants_gradient(gates, weight_hh, bias_hn, h0)) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return without_autograd<kReference>(gates, weight_hh, bias_hn, h0, positions);
  }
  const auto outputs = GruScan::apply(gates, weight_hh, bias_hn, h0, positions, kReference);
  return {outputs[0], outputs[1]};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(hippodrome, m) {
  m.def(
      "gru_scan(Tensor gates, Tensor weight_hh, Tensor bias_hn, Tensor? h0=None, Tensor? positions=None)"
      " -> (Tensor y, Tensor h)");
  m.def(
      "gru_scan_reference(Tensor gates, Tensor weight_hh, Tensor bias_hn, Tensor? h0=None, Tensor? positions=None)"
      " -> (Tensor y, Tensor h)");
  // activated [B, L, 4H] and hidden_states [B, L, H] are what backward needs; empty without `save`.
  m.def(
      "_gru_scan_forward(Tensor gates, Tensor weight_hh, Tensor bias_hn, Tensor? h0, Tensor? positions, bool save,"
      " bool reference) -> (Tensor y, Tensor h, Tensor activated, Tensor hidden_states)");
  m.def(
      "_gru_scan_backward(Tensor grad_y, Tensor grad_h, Tensor weight_hh, Tensor activated, Tensor hidden_states,"
      " Tensor? h0, Tensor? positions, bool reference)"
      " -> (Tensor grad_gates, Tensor grad_weight_hh, Tensor grad_bias_hn, Tensor grad_h0)");
}

TORCH_LIBRARY_IMPL(hippodrome, CompositeExplicitAutograd, m) {
  m.impl("gru_scan", without_autograd<false>);
  m.impl("gru_scan_reference", without_autograd<true>);
}

TORCH_LIBRARY_IMPL(hippodrome, Autograd, m) {
  m.impl("gru_scan", with_autograd<false>);
  m.impl("gru_scan_reference", with_autograd<true>);
  m.impl("_gru_scan_forward", torch::autograd::autogradNotImplementedFallback());
  m.impl("_gru_scan_backward", torch::autograd::autogradNotImplementedFallback());
}

TORCH_LIBRARY_IMPL(hippodrome, CPU, m) {
  m.impl("_gru_scan_forward", forward_cpu);
  m.impl("_gru_scan_backward", backward_cpu);
}

TORCH_LIBRARY_IMPL(hippodrome, Meta, m) {
  m.impl("_gru_scan_forward", forward_meta);
  m.impl("_gru_scan_backward", backward_meta);
}

}  // namespace gru_scan_op

std::tuple<at::Tensor, at::Tensor> gru_scan(const at::Tensor& gates, const at::Tensor& weight_hh,
                                            const at::Tensor& bias_hn, const std::optional<at::Tensor>& h0,
                                            const std::optional<at::Tensor>& positions, bool reference) {
  using Signature = decltype(gru_scan_op::without_autograd<false>);
  static const auto fused = find_op<Signature>("hippodrome::gru_scan");
  static const auto plain = find_op<Signature>("hippodrome::gru_scan_reference");
  return (reference ? plain : fused).call(gates, weight_hh, bias_hn, h0, positions);
}

}  // namespace hippodrome
