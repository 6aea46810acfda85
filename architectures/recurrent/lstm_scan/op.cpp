// hippodrome::lstm_scan: schema, checks, autograd, meta and the CPU binding.
#include "architectures/recurrent/lstm_scan/op.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "architectures/recurrent/lstm_scan/binding.h"
#include "architectures/recurrent/lstm_scan/lstm_scan.h"
#include "architectures/recurrent/lstm_scan/reference.h"
#include "architectures/recurrent/recurrent_product.h"
#include "core/tensor/flop_meter.h"
#include "core/tensor/op_binding.h"

namespace hippodrome {
namespace lstm_scan_op {
namespace {

// Rows of the batch per thread: below about 10^5 multiply-adds a second thread costs more than it saves.
int64_t rows_per_thread(int64_t length, int64_t hidden) { return grain(4 * hidden * hidden * length); }

template <class T>
Saved run_forward(const Tensor& gates_in, const Tensor& weight_in, const OptionalTensor& h0_in,
                  const OptionalTensor& c0_in, const OptionalTensor& positions_in, bool save, bool reference) {
  const auto dtype = compute_dtype(gates_in);
  const Tensor gates = in_compute_dtype(gates_in, dtype), weight = in_compute_dtype(weight_in, dtype);
  const Tensor h0 = in_compute_dtype(h0_in, dtype), c0 = in_compute_dtype(c0_in, dtype);
  const Tensor positions = contiguous_if_given(positions_in);
  auto [y, h, c, activated, cells] = make_outputs(gates, weight, save);
  LstmScanForward<T> p{gates.size(0),
                       gates.size(1),
                       weight.size(1),
                       gates.const_data_ptr<T>(),
                       weight.const_data_ptr<T>(),
                       nullptr,
                       data_or_null<T>(h0),
                       data_or_null<T>(c0),
                       data_or_null<int64_t>(positions),
                       y.mutable_data_ptr<T>(),
                       h.mutable_data_ptr<T>(),
                       c.mutable_data_ptr<T>(),
                       save ? activated.mutable_data_ptr<T>() : nullptr,
                       save ? cells.mutable_data_ptr<T>() : nullptr};
  if (reference) {
    run_counted(p, [](const auto& params) { lstm_scan_forward_reference(params); });
  } else {
    Tensor packed;
    if (p.batch * p.length > kRecurrentDirectTokens) {
      packed = at::empty({recurrent_packed_elements(4, p.hidden)}, weight.options());
      lstm_scan_pack(p.weight_hh, p.hidden, packed.mutable_data_ptr<T>());
      p.packed = packed.const_data_ptr<T>();
    }
    at::parallel_for(0, p.batch, rows_per_thread(p.length, p.hidden),
                     [&](int64_t begin, int64_t end) { lstm_scan_forward(p, begin, end); });
  }
  return {y.to(gates_in.scalar_type()), h, c, activated, cells};
}

Saved forward_cpu(const Tensor& gates, const Tensor& weight_hh, const OptionalTensor& h0, const OptionalTensor& c0,
                  const OptionalTensor& positions, bool save, bool reference) {
  check(gates, weight_hh, h0, c0, positions);
  return compute_dtype(gates) == at::kDouble ? run_forward<double>(gates, weight_hh, h0, c0, positions, save, reference)
                                             : run_forward<float>(gates, weight_hh, h0, c0, positions, save, reference);
}

Saved forward_meta(const Tensor& gates, const Tensor& weight_hh, const OptionalTensor& h0, const OptionalTensor& c0,
                   const OptionalTensor& positions, bool save, bool) {
  check(gates, weight_hh, h0, c0, positions);
  return make_outputs(gates, weight_hh, save);
}

template <class T>
Gradients run_backward(const Tensor& grad_y_in, const Tensor& grad_h_in, const Tensor& grad_c_in,
                       const Tensor& weight_in, const Tensor& activated, const Tensor& cells,
                       const OptionalTensor& h0_in, const OptionalTensor& c0_in, const OptionalTensor& positions_in,
                       bool reference) {
  const auto dtype = activated.scalar_type();
  const Tensor grad_y = in_compute_dtype(grad_y_in, dtype), weight = in_compute_dtype(weight_in, dtype);
  const Tensor grad_h = in_compute_dtype(grad_h_in, dtype), grad_c = in_compute_dtype(grad_c_in, dtype);
  const Tensor h0 = in_compute_dtype(h0_in, dtype), c0 = in_compute_dtype(c0_in, dtype);
  const Tensor positions = contiguous_if_given(positions_in);
  const int64_t batch = activated.size(0), length = activated.size(1), hidden = weight.size(1);
  Tensor grad_gates = at::empty(activated.sizes(), activated.options());
  Tensor grad_h0 = at::empty({batch, hidden}, activated.options());
  Tensor grad_c0 = at::empty({batch, hidden}, activated.options());
  LstmScanBackward<T> p{batch,
                        length,
                        hidden,
                        weight.const_data_ptr<T>(),
                        nullptr,
                        activated.const_data_ptr<T>(),
                        cells.const_data_ptr<T>(),
                        data_or_null<T>(h0),
                        data_or_null<T>(c0),
                        data_or_null<int64_t>(positions),
                        grad_y.const_data_ptr<T>(),
                        grad_h.const_data_ptr<T>(),
                        grad_c.const_data_ptr<T>(),
                        grad_gates.mutable_data_ptr<T>(),
                        nullptr,
                        nullptr,
                        grad_h0.mutable_data_ptr<T>(),
                        grad_c0.mutable_data_ptr<T>()};
  if (reference) {
    Tensor grad_weight = at::empty({4 * hidden, hidden}, activated.options());
    p.grad_weight_hh = grad_weight.mutable_data_ptr<T>();
    lstm_scan_backward_reference(p);
    return {grad_gates, grad_weight, grad_h0, grad_c0};
  }
  const Tensor packed = [&] {
    Tensor memory = at::empty({recurrent_packed_elements(4, hidden)}, weight.options());
    lstm_scan_pack_adjoint(p.weight_hh, hidden, memory.mutable_data_ptr<T>());
    return memory;
  }();
  p.packed = packed.const_data_ptr<T>();
  Tensor previous_h = at::empty({batch, length, hidden}, activated.options());
  p.previous_h = previous_h.mutable_data_ptr<T>();
  at::parallel_for(0, batch, rows_per_thread(length, hidden),
                   [&](int64_t begin, int64_t end) { lstm_scan_backward(p, begin, end); });
  Tensor grad_weight =
      at::mm(grad_gates.view({batch * length, 4 * hidden}).t(), previous_h.view({batch * length, hidden}));
  return {grad_gates, grad_weight, grad_h0, grad_c0};
}

Gradients backward_cpu(const Tensor& grad_y, const Tensor& grad_h, const Tensor& grad_c, const Tensor& weight_hh,
                       const Tensor& activated, const Tensor& cells, const OptionalTensor& h0, const OptionalTensor& c0,
                       const OptionalTensor& positions, bool reference) {
  return activated.scalar_type() == at::kDouble
             ? run_backward<double>(grad_y, grad_h, grad_c, weight_hh, activated, cells, h0, c0, positions, reference)
             : run_backward<float>(grad_y, grad_h, grad_c, weight_hh, activated, cells, h0, c0, positions, reference);
}

Gradients backward_meta(const Tensor&, const Tensor& grad_h, const Tensor&, const Tensor& weight_hh,
                        const Tensor& activated, const Tensor&, const OptionalTensor&, const OptionalTensor&,
                        const OptionalTensor&, bool) {
  const auto options = activated.options();
  return {at::empty_symint(activated.sym_sizes(), options), at::empty_symint(weight_hh.sym_sizes(), options),
          at::empty_symint(grad_h.sym_sizes(), options), at::empty_symint(grad_h.sym_sizes(), options)};
}

Saved call_forward(const Tensor& gates, const Tensor& weight_hh, const OptionalTensor& h0, const OptionalTensor& c0,
                   const OptionalTensor& positions, bool save, bool reference) {
  static const auto op = find_op<decltype(forward_cpu)>("hippodrome::_lstm_scan_forward");
  return op.call(gates, weight_hh, h0, c0, positions, save, reference);
}

class LstmScan : public torch::autograd::Function<LstmScan> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context, const Tensor& gates,
                                                const Tensor& weight_hh, const OptionalTensor& h0,
                                                const OptionalTensor& c0, const OptionalTensor& positions,
                                                bool reference) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [y, h, c, activated, cells] = call_forward(gates, weight_hh, h0, c0, positions, true, reference);
    context->save_for_backward(
        {weight_hh, activated, cells, or_undefined(h0), or_undefined(c0), or_undefined(positions)});
    context->saved_data["reference"] = reference;
    context->saved_data["gates"] = static_cast<int64_t>(gates.scalar_type());
    return {y, h, c};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    static const auto op = find_op<decltype(backward_cpu)>("hippodrome::_lstm_scan_backward");
    const auto saved = context->get_saved_variables();
    const Tensor &weight_hh = saved[0], &h0 = saved[3], &c0 = saved[4], &positions = saved[5];
    auto [gates, weight, initial_h, initial_c] =
        op.call(grads[0], grads[1], grads[2], weight_hh, saved[1], saved[2], if_defined(h0), if_defined(c0),
                if_defined(positions), context->saved_data["reference"].toBool());
    return {gates.to(static_cast<at::ScalarType>(context->saved_data["gates"].toInt())),
            weight.to(weight_hh.scalar_type()),
            h0.defined() ? initial_h.to(h0.scalar_type()) : Tensor(),
            c0.defined() ? initial_c.to(c0.scalar_type()) : Tensor(),
            Tensor(),
            Tensor()};
  }
};

template <bool kReference>
Outputs without_autograd(const Tensor& gates, const Tensor& weight_hh, const OptionalTensor& h0,
                         const OptionalTensor& c0, const OptionalTensor& positions) {
  auto [y, h, c, activated, cells] = call_forward(gates, weight_hh, h0, c0, positions, false, kReference);
  return {y, h, c};
}

template <bool kReference>
Outputs with_autograd(const Tensor& gates, const Tensor& weight_hh, const OptionalTensor& h0, const OptionalTensor& c0,
                      const OptionalTensor& positions) {
  if (!wants_gradient(gates, weight_hh, h0, c0)) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return without_autograd<kReference>(gates, weight_hh, h0, c0, positions);
  }
  const auto outputs = LstmScan::apply(gates, weight_hh, h0, c0, positions, kReference);
  return {outputs[0], outputs[1], outputs[2]};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(hippodrome, m) {
  m.def(
      "lstm_scan(Tensor gates, Tensor weight_hh, Tensor? h0=None, Tensor? c0=None, Tensor? positions=None)"
      " -> (Tensor y, Tensor h, Tensor c)");
  m.def(
      "lstm_scan_reference(Tensor gates, Tensor weight_hh, Tensor? h0=None, Tensor? c0=None, Tensor? positions=None)"
      " -> (Tensor y, Tensor h, Tensor c)");
  // activated [B, L, 4H] and cells [B, L, H] are what backward needs; empty without `save`.
  m.def(
      "_lstm_scan_forward(Tensor gates, Tensor weight_hh, Tensor? h0, Tensor? c0, Tensor? positions, bool save,"
      " bool reference) -> (Tensor y, Tensor h, Tensor c, Tensor activated, Tensor cells)");
  m.def(
      "_lstm_scan_backward(Tensor grad_y, Tensor grad_h, Tensor grad_c, Tensor weight_hh, Tensor activated,"
      " Tensor cells, Tensor? h0, Tensor? c0, Tensor? positions, bool reference)"
      " -> (Tensor grad_gates, Tensor grad_weight_hh, Tensor grad_h0, Tensor grad_c0)");
}

TORCH_LIBRARY_IMPL(hippodrome, CompositeExplicitAutograd, m) {
  m.impl("lstm_scan", without_autograd<false>);
  m.impl("lstm_scan_reference", without_autograd<true>);
}

TORCH_LIBRARY_IMPL(hippodrome, Autograd, m) {
  m.impl("lstm_scan", with_autograd<false>);
  m.impl("lstm_scan_reference", with_autograd<true>);
  m.impl("_lstm_scan_forward", torch::autograd::autogradNotImplementedFallback());
  m.impl("_lstm_scan_backward", torch::autograd::autogradNotImplementedFallback());
}

TORCH_LIBRARY_IMPL(hippodrome, CPU, m) {
  m.impl("_lstm_scan_forward", forward_cpu);
  m.impl("_lstm_scan_backward", backward_cpu);
}

TORCH_LIBRARY_IMPL(hippodrome, Meta, m) {
  m.impl("_lstm_scan_forward", forward_meta);
  m.impl("_lstm_scan_backward", backward_meta);
}

}  // namespace lstm_scan_op

std::tuple<at::Tensor, at::Tensor, at::Tensor> lstm_scan(const at::Tensor& gates, const at::Tensor& weight_hh,
                                                         const std::optional<at::Tensor>& h0,
                                                         const std::optional<at::Tensor>& c0,
                                                         const std::optional<at::Tensor>& positions, bool reference) {
  using Signature = decltype(lstm_scan_op::without_autograd<false>);
  static const auto fused = find_op<Signature>("hippodrome::lstm_scan");
  static const auto plain = find_op<Signature>("hippodrome::lstm_scan_reference");
  return (reference ? plain : fused).call(gates, weight_hh, h0, c0, positions);
}

}  // namespace hippodrome
