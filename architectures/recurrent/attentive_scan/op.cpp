// hippodrome::attentive_scan: schema, checks, autograd, meta and the CPU binding.
#include "architectures/recurrent/attentive_scan/op.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "architectures/recurrent/additive_attention/keys.h"
#include "architectures/recurrent/attentive_scan/attentive_scan.h"
#include "architectures/recurrent/attentive_scan/binding.h"
#include "architectures/recurrent/attentive_scan/reference.h"
#include "core/tensor/flop_meter.h"

namespace hippodrome {
namespace attentive_scan_op {
namespace {

template <class T>
const T* data_or_null(const OptionalTensor& t) {
  return given(t) ? t->const_data_ptr<T>() : nullptr;
}
template <class T>
T* elements_or_null(const Tensor& t) {
  return t.numel() > 0 ? t.mutable_data_ptr<T>() : nullptr;
}

// Rows per thread: below some 10^5 multiply-adds a second thread costs more than it saves.
int64_t grain(const AttentiveScanShape& a, int64_t rows) {
  const int64_t token = a.hidden * (a.gates() + a.features) + a.gates() * a.width + a.keys * (a.features + a.width);
  return std::max<int64_t>(1, 100'000 / std::max<int64_t>(1, token * a.length * rows));
}

// One query of a source is cheaper without the exponentials of its keys.
template <class T>
Tensor exponentials(const AttentiveScanShape& a, const Tensor& keys, bool reference, std::vector<VisibleKeys>& rows) {
  return reference || a.length * a.batch / a.sources < 2 ? Tensor() : key_exponentials<T>(keys, rows);
}

template <class T>
Saved run_forward(const Arguments& given_arguments, bool save, bool reference) {
  const Arguments in = given_arguments.readable();
  auto [s, contexts, final_s, final_c, kept] = in.make_outputs(save);
  const AttentiveScanShape shape = in.shape();
  std::vector<VisibleKeys> rows = visible_keys(in.source_positions, shape.sources, shape.keys);
  const Tensor of_keys = exponentials<T>(shape, in.keys, reference, rows);
  const AttentiveScanForward<T> p{shape,
                                  rows.data(),
                                  in.gates.const_data_ptr<T>(),
                                  in.weight_hh.const_data_ptr<T>(),
                                  in.weight_c.const_data_ptr<T>(),
                                  in.weight_q.const_data_ptr<T>(),
                                  in.keys.const_data_ptr<T>(),
                                  data_or_null<T>(of_keys),
                                  in.v.const_data_ptr<T>(),
                                  in.values.const_data_ptr<T>(),
                                  data_or_null<T>(in.s0),
                                  data_or_null<T>(in.c0),
                                  data_or_null<int64_t>(in.positions),
                                  s.mutable_data_ptr<T>(),
                                  contexts.mutable_data_ptr<T>(),
                                  final_s.mutable_data_ptr<T>(),
                                  elements_or_null<T>(final_c),
                                  save ? kept[0].mutable_data_ptr<T>() : nullptr,
                                  save ? kept[1].mutable_data_ptr<T>() : nullptr,
                                  save ? elements_or_null<T>(kept[2]) : nullptr,
                                  save ? kept[3].mutable_data_ptr<T>() : nullptr,
                                  save ? kept[4].mutable_data_ptr<T>() : nullptr};
  if (reference) {
    run_counted(p, [](const auto& params) { attentive_scan_forward_reference(params); });
  } else {
    at::parallel_for(0, shape.batch, grain(shape, 1),
                     [&](int64_t begin, int64_t end) { attentive_scan_forward(p, begin, end); });
  }
  if (save && given_arguments.narrow()) kept[5] = contexts;
  const auto dtype = given_arguments.gates.scalar_type();
  return {s.to(dtype), contexts.to(dtype), final_s, final_c, kept};
}

Saved forward_cpu(HIPPODROME_ATTENTIVE_PARAMETERS, bool save, bool reference) {
  const Arguments in{std::string(cell), gates,    weight_hh, weight_c, weight_q, keys, v, values, s0, c0,
                     source_positions,  positions};
  in.check();
  return compute_dtype(gates) == at::kDouble ? run_forward<double>(in, save, reference)
                                             : run_forward<float>(in, save, reference);
}

Saved forward_meta(HIPPODROME_ATTENTIVE_PARAMETERS, bool save, bool) {
  const Arguments in{std::string(cell), gates,    weight_hh, weight_c, weight_q, keys, v, values, s0, c0,
                     source_positions,  positions};
  in.check();
  return in.make_outputs(save);
}

template <class T>
Gradients run_backward(const std::vector<Tensor>& grads, const Arguments& given_arguments, const Tensor& contexts_in,
                       const std::vector<Tensor>& kept, bool reference) {
  const Arguments in = given_arguments.readable();
  const AttentiveScanShape a = in.shape();
  const auto dtype = compute_dtype(in.gates);
  const Tensor contexts = contexts_in.contiguous();
  std::vector<Tensor> grad;
  for (const Tensor& t : grads) grad.push_back(t.to(dtype).contiguous());
  std::vector<VisibleKeys> rows = visible_keys(in.source_positions, a.sources, a.keys);
  const Tensor of_keys = exponentials<T>(a, in.keys, reference, rows);
  const auto options = in.gates.options();
  const int64_t n = a.hidden, G = a.gates(), tokens = a.batch * a.length, recurrent = a.lstm ? G : 2 * n;
  const Tensor none = at::empty({0}, options);
  // Rows and columns exchanged, for the kernel alone.
  const auto exchanged = [&](const Tensor& weight) { return reference ? none : weight.t().contiguous(); };
  const Tensor recurrent_t = exchanged(in.weight_hh.slice(0, 0, recurrent));
  const Tensor candidate_t = exchanged(in.weight_hh.slice(0, recurrent, G)), context_t = exchanged(in.weight_c);
  const Tensor query_t = exchanged(in.weight_q);
  Tensor grad_gates = at::empty_like(in.gates), grad_keys = at::zeros_like(in.keys),
         grad_values = at::zeros_like(in.values);
  Tensor grad_s0 = at::empty({a.batch, n}, options), grad_c0 = a.lstm ? at::empty({a.batch, n}, options) : none;
  Tensor grad_queries = at::empty({tokens, a.features}, options);
  Tensor previous_s = reference ? none : at::empty({tokens, n}, options);
  Tensor reset_s = reference || a.lstm ? none : at::empty({tokens, n}, options);
  Tensor partial_v = reference ? none : at::empty({a.sources, a.features}, options);
  Tensor grad_hh = at::zeros_like(in.weight_hh), grad_c = at::zeros_like(in.weight_c),
         grad_q = at::zeros_like(in.weight_q);
  Tensor grad_v = at::zeros_like(in.v);
  const AttentiveScanBackward<T> p{a,
                                   rows.data(),
                                   in.weight_hh.const_data_ptr<T>(),
                                   in.weight_c.const_data_ptr<T>(),
                                   in.weight_q.const_data_ptr<T>(),
                                   elements_or_null<T>(recurrent_t),
                                   elements_or_null<T>(candidate_t),
                                   elements_or_null<T>(context_t),
                                   elements_or_null<T>(query_t),
                                   in.keys.const_data_ptr<T>(),
                                   data_or_null<T>(of_keys),
                                   in.v.const_data_ptr<T>(),
                                   in.values.const_data_ptr<T>(),
                                   data_or_null<T>(in.s0),
                                   data_or_null<T>(in.c0),
                                   data_or_null<int64_t>(in.positions),
                                   contexts.const_data_ptr<T>(),
                                   kept[0].const_data_ptr<T>(),
                                   kept[1].const_data_ptr<T>(),
                                   elements_or_null<T>(kept[2]),
                                   kept[3].const_data_ptr<T>(),
                                   kept[4].const_data_ptr<T>(),
                                   grad[0].const_data_ptr<T>(),
                                   grad[1].const_data_ptr<T>(),
                                   grad[2].const_data_ptr<T>(),
                                   elements_or_null<T>(grad[3]),
                                   grad_gates.mutable_data_ptr<T>(),
                                   grad_keys.mutable_data_ptr<T>(),
                                   grad_values.mutable_data_ptr<T>(),
                                   grad_s0.mutable_data_ptr<T>(),
                                   elements_or_null<T>(grad_c0),
                                   grad_queries.mutable_data_ptr<T>(),
                                   elements_or_null<T>(previous_s),
                                   elements_or_null<T>(reset_s),
                                   elements_or_null<T>(partial_v),
                                   grad_hh.mutable_data_ptr<T>(),
                                   grad_c.mutable_data_ptr<T>(),
                                   grad_q.mutable_data_ptr<T>(),
                                   grad_v.mutable_data_ptr<T>()};
  if (reference) {
    attentive_scan_backward_reference(p);
  } else {
    at::parallel_for(0, a.sources, grain(a, a.batch / a.sources),
                     [&](int64_t begin, int64_t end) { attentive_scan_backward(p, begin, end); });
    const Tensor flat = grad_gates.view({tokens, G});
    Tensor to_recurrent = grad_hh.slice(0, 0, recurrent), to_candidate = grad_hh.slice(0, recurrent, G);
    at::mm_out(to_recurrent, flat.slice(1, 0, recurrent).t(), previous_s);
    if (!a.lstm) at::mm_out(to_candidate, flat.slice(1, recurrent, G).t(), reset_s);
    at::mm_out(grad_c, flat.t(), contexts.view({tokens, a.width}));
    at::mm_out(grad_q, grad_queries.t(), previous_s);
    grad_v = partial_v.sum(0);
  }
  return {grad_gates, grad_hh, grad_c, grad_q, grad_keys, grad_v, grad_values, grad_s0, grad_c0};
}

Gradients backward_cpu(at::TensorList grads, HIPPODROME_ATTENTIVE_PARAMETERS, const Tensor& contexts,
                       at::TensorList kept, bool reference) {
  const Arguments in{std::string(cell), gates,    weight_hh, weight_c, weight_q, keys, v, values, s0, c0,
                     source_positions,  positions};
  return compute_dtype(gates) == at::kDouble ? run_backward<double>(grads.vec(), in, contexts, kept.vec(), reference)
                                             : run_backward<float>(grads.vec(), in, contexts, kept.vec(), reference);
}

Gradients backward_meta(at::TensorList, HIPPODROME_ATTENTIVE_PARAMETERS, const Tensor&, at::TensorList, bool) {
  (void)s0, (void)c0, (void)source_positions, (void)positions;
  const auto wide = gates.options().dtype(compute_dtype(gates));
  const auto state = [&] { return at::empty_symint({gates.sym_size(0), weight_hh.sym_size(1)}, wide); };
  Gradients result;
  for (const Tensor& t : {gates, weight_hh, weight_c, weight_q, keys, v, values}) {
    result.push_back(at::empty_symint(t.sym_sizes(), wide));
  }
  result.push_back(state());
  result.push_back(cell == "lstm" ? state() : at::empty({0}, wide));
  return result;
}

Saved call_forward(HIPPODROME_ATTENTIVE_PARAMETERS, bool save, bool reference) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("hippodrome::_attentive_scan_forward", "")
                             .typed<decltype(forward_cpu)>();
  return op.call(HIPPODROME_ATTENTIVE_ARGUMENTS, save, reference);
}

class AttentiveScan : public torch::autograd::Function<AttentiveScan> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context, const std::string& cell,
                                                const Tensor& gates, const Tensor& weight_hh, const Tensor& weight_c,
                                                const Tensor& weight_q, const Tensor& keys, const Tensor& v,
                                                const Tensor& values, const OptionalTensor& s0,
                                                const OptionalTensor& c0, const OptionalTensor& source_positions,
                                                const OptionalTensor& positions, bool reference) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [s, contexts, final_s, final_c, kept] = call_forward(HIPPODROME_ATTENTIVE_ARGUMENTS, true, reference);
    std::vector<Tensor> saved{gates, weight_hh, weight_c, weight_q, keys, v, values};
    for (const OptionalTensor* t : {&s0, &c0, &source_positions, &positions}) saved.push_back(t->value_or(Tensor()));
    saved.push_back(contexts.scalar_type() == kept[5].scalar_type() ? contexts : kept[5]);
    saved.insert(saved.end(), kept.begin(), kept.end() - 1);
    context->save_for_backward(saved);
    context->saved_data["cell"] = cell;
    context->saved_data["reference"] = reference;
    return {s, contexts, final_s, final_c};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("hippodrome::_attentive_scan_backward", "")
                               .typed<decltype(backward_cpu)>();
    const auto saved = context->get_saved_variables();
    const auto optional = [&](size_t i) { return saved[i].defined() ? OptionalTensor(saved[i]) : std::nullopt; };
    const std::vector<Tensor> kept(saved.begin() + 12, saved.end());
    const std::vector<Tensor> result =
        op.call(grads, context->saved_data["cell"].toStringView(), saved[0], saved[1], saved[2], saved[3], saved[4],
                saved[5], saved[6], optional(7), optional(8), optional(9), optional(10), saved[11], kept,
                context->saved_data["reference"].toBool());
    torch::autograd::variable_list gradients{Tensor()};
    for (size_t i = 0; i < result.size(); ++i) {
      gradients.push_back(saved[i].defined() ? result[i].to(saved[i].scalar_type()) : Tensor());
    }
    gradients.resize(13);
    return gradients;
  }
};

template <bool kReference>
Outputs without_autograd(HIPPODROME_ATTENTIVE_PARAMETERS) {
  auto [s, contexts, final_s, final_c, kept] = call_forward(HIPPODROME_ATTENTIVE_ARGUMENTS, false, kReference);
  return {s, contexts, final_s, final_c};
}

template <bool kReference>
Outputs with_autograd(HIPPODROME_ATTENTIVE_PARAMETERS) {
  const std::array<const Tensor*, 7> tensors{&gates, &weight_hh, &weight_c, &weight_q, &keys, &v, &values};
  const bool wanted = std::any_of(tensors.begin(), tensors.end(), [](const Tensor* t) { return t->requires_grad(); }) ||
                      (given(s0) && s0->requires_grad()) || (given(c0) && c0->requires_grad());
  if (!at::GradMode::is_enabled() || !wanted) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return without_autograd<kReference>(HIPPODROME_ATTENTIVE_ARGUMENTS);
  }
  const auto outputs = AttentiveScan::apply(std::string(cell), gates, weight_hh, weight_c, weight_q, keys, v, values,
                                            s0, c0, source_positions, positions, kReference);
  return {outputs[0], outputs[1], outputs[2], outputs[3]};
}

}  // namespace

#define HIPPODROME_ATTENTIVE_SCHEMA \
  "str cell, Tensor gates, Tensor weight_hh, Tensor weight_c, Tensor weight_q, Tensor keys, Tensor v, Tensor values"
TORCH_LIBRARY_FRAGMENT(hippodrome, m) {
  m.def("attentive_scan(" HIPPODROME_ATTENTIVE_SCHEMA
        ", Tensor? s0=None, Tensor? c0=None, Tensor? source_positions=None, Tensor? positions=None)"
        " -> (Tensor s, Tensor contexts, Tensor final_s, Tensor final_c)");
  m.def("attentive_scan_reference(" HIPPODROME_ATTENTIVE_SCHEMA
        ", Tensor? s0=None, Tensor? c0=None, Tensor? source_positions=None, Tensor? positions=None)"
        " -> (Tensor s, Tensor contexts, Tensor final_s, Tensor final_c)");
  // kept: activated, states, cells, queries, lse and contexts that were rounded, for backward; empty without `save`.
  m.def("_attentive_scan_forward(" HIPPODROME_ATTENTIVE_SCHEMA
        ", Tensor? s0, Tensor? c0, Tensor? source_positions, Tensor? positions, bool save, bool reference)"
        " -> (Tensor s, Tensor contexts, Tensor final_s, Tensor final_c, Tensor[] kept)");
  m.def("_attentive_scan_backward(Tensor[] grads, " HIPPODROME_ATTENTIVE_SCHEMA
        ", Tensor? s0, Tensor? c0, Tensor? source_positions, Tensor? positions, Tensor contexts, Tensor[] kept,"
        " bool reference)"
        " -> Tensor[]");
}
#undef HIPPODROME_ATTENTIVE_SCHEMA

TORCH_LIBRARY_IMPL(hippodrome, CompositeExplicitAutograd, m) {
  m.impl("attentive_scan", without_autograd<false>);
  m.impl("attentive_scan_reference", without_autograd<true>);
}

TORCH_LIBRARY_IMPL(hippodrome, Autograd, m) {
  m.impl("attentive_scan", with_autograd<false>);
  m.impl("attentive_scan_reference", with_autograd<true>);
  m.impl("_attentive_scan_forward", torch::autograd::autogradNotImplementedFallback());
  m.impl("_attentive_scan_backward", torch::autograd::autogradNotImplementedFallback());
}

TORCH_LIBRARY_IMPL(hippodrome, CPU, m) {
  m.impl("_attentive_scan_forward", forward_cpu);
  m.impl("_attentive_scan_backward", backward_cpu);
}

TORCH_LIBRARY_IMPL(hippodrome, Meta, m) {
  m.impl("_attentive_scan_forward", forward_meta);
  m.impl("_attentive_scan_backward", backward_meta);
}

}  // namespace attentive_scan_op

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> attentive_scan(const AttentiveScanInputs& in,
                                                                          bool reference) {
  using Signature = decltype(attentive_scan_op::without_autograd<false>);
  static const auto fused =
      c10::Dispatcher::singleton().findSchemaOrThrow("hippodrome::attentive_scan", "").typed<Signature>();
  static const auto plain =
      c10::Dispatcher::singleton().findSchemaOrThrow("hippodrome::attentive_scan_reference", "").typed<Signature>();
  return (reference ? plain : fused)
      .call(in.cell, in.gates, in.weight_hh, in.weight_c, in.weight_q, in.keys, in.v, in.values, in.s0, in.c0,
            in.source_positions, in.positions);
}

}  // namespace hippodrome
#undef HIPPODROME_ATTENTIVE_PARAMETERS
#undef HIPPODROME_ATTENTIVE_ARGUMENTS
