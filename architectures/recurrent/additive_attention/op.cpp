// hippodrome::additive_attention: schema, checks, autograd, meta and the CPU binding.
#include "architectures/recurrent/additive_attention/op.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "architectures/recurrent/additive_attention/additive_attention.h"
#include "architectures/recurrent/additive_attention/binding.h"
#include "architectures/recurrent/additive_attention/keys.h"
#include "architectures/recurrent/additive_attention/reference.h"
#include "core/tensor/flop_meter.h"

namespace hippodrome {
namespace additive_attention_op {
namespace {

// Rows and parts whose gradients of queries the backward holds at once.
constexpr int64_t kItemsTogether = 16;

// A lone query is cheaper without the exponentials of its keys.
template <class T>
Tensor exponentials(const Tensor& k, int64_t queries, bool reference, std::vector<VisibleKeys>& rows) {
  return reference || queries < 2 ? Tensor() : key_exponentials<T>(k, rows);
}

template <class T>
Outputs run_forward(const Tensor& q_in, const Tensor& k_in, const Tensor& v_in, const OptionalTensor& values_in,
                    const OptionalTensor& positions, bool reference) {
  const auto dtype = compute_dtype(q_in);
  const Tensor q = in_compute_dtype(q_in, dtype), k = in_compute_dtype(k_in, dtype), v = in_compute_dtype(v_in, dtype);
  const Tensor values = values_in ? in_compute_dtype(*values_in, dtype) : Tensor();
  const int64_t batch = q.size(0), queries = q.size(1), keys = k.size(1), width = values_in ? values.size(2) : 0;
  std::vector<VisibleKeys> rows = visible_keys(positions, batch, keys);
  const Tensor of_keys = exponentials<T>(k, queries, reference, rows);
  Tensor out = at::empty({batch, queries, values_in ? width : keys}, q.options()), lse = make_lse(q);
  const AdditiveAttentionForward<T> p{batch,
                                      queries,
                                      keys,
                                      q.size(2),
                                      width,
                                      rows.data(),
                                      q.const_data_ptr<T>(),
                                      k.const_data_ptr<T>(),
                                      data_or_null<T>(of_keys),
                                      v.const_data_ptr<T>(),
                                      data_or_null<T>(values),
                                      out.mutable_data_ptr<T>(),
                                      lse.mutable_data_ptr<T>()};
  if (reference) {
    run_counted(p, [&](const auto& params) {
      values_in ? additive_attention_forward_reference(params) : additive_attention_weights_reference(params);
    });
  } else {
    at::parallel_for(
        0, batch * additive_attention_blocks(queries),
        grain(std::min(queries, kAdditiveQueries) * keys * (p.size + width)), [&](int64_t begin, int64_t end) {
          values_in ? additive_attention_forward(p, begin, end) : additive_attention_weights(p, begin, end);
        });
  }
  return {out.to(q_in.scalar_type()), lse};
}

Outputs forward_cpu(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& values,
                    const OptionalTensor& positions, bool reference) {
  check(q, k, v, values, positions);
  return compute_dtype(q) == at::kDouble ? run_forward<double>(q, k, v, values, positions, reference)
                                         : run_forward<float>(q, k, v, values, positions, reference);
}

Outputs forward_meta(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& values,
                     const OptionalTensor& positions, bool) {
  check(q, k, v, values, positions);
  return {at::empty_symint({q.sym_size(0), q.sym_size(1), values.sym_size(2)}, q.options()), make_lse(q)};
}

template <bool kReference>
Tensor weights_cpu(const Tensor& q, const Tensor& k, const Tensor& v, const OptionalTensor& positions) {
  check(q, k, v, positions);
  return std::get<0>(compute_dtype(q) == at::kDouble
                         ? run_forward<double>(q, k, v, std::nullopt, positions, kReference)
                         : run_forward<float>(q, k, v, std::nullopt, positions, kReference));
}

Tensor weights_meta(const Tensor& q, const Tensor& k, const Tensor& v, const OptionalTensor& positions) {
  check(q, k, v, positions);
  return at::empty_symint({q.sym_size(0), q.sym_size(1), k.sym_size(1)}, q.options());
}

// ∂q = 4 v Σ of the parts, of the rows [first, last).
template <class T>
void join_parts(const AdditiveAttentionBackward<T>& p, int64_t first, int64_t last) {
  const int64_t parts = additive_attention_parts(p.keys), elements = p.queries * p.size;
  at::parallel_for(0, (last - first) * p.queries, grain(parts * p.size), [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; ++at) {
      const int64_t row = at / p.queries, query = at % p.queries;
      T* to = p.grad_q + ((first + row) * p.queries + query) * p.size;
      for (int64_t part = 0; part < parts; ++part) {
        const T* from = p.partial_q + (row * parts + part) * elements + query * p.size;
        for (int64_t h = 0; h < p.size; ++h) to[h] += from[h];
      }
      for (int64_t h = 0; h < p.size; ++h) to[h] *= T(4) * p.v[h];
    }
  });
}

template <class T>
Gradients run_backward(const Tensor& grad_context_in, const Tensor& grad_lse_in, const Tensor& q_in, const Tensor& k_in,
                       const Tensor& v_in, const Tensor& values_in, const Tensor& context_in, const Tensor& lse,
                       const OptionalTensor& positions, bool reference) {
  const auto dtype = compute_dtype(q_in);
  const Tensor q = in_compute_dtype(q_in, dtype), k = in_compute_dtype(k_in, dtype), v = in_compute_dtype(v_in, dtype);
  const Tensor values = in_compute_dtype(values_in, dtype), context = in_compute_dtype(context_in, dtype);
  const Tensor grad_context = in_compute_dtype(grad_context_in, dtype), grad_lse = in_compute_dtype(grad_lse_in, dtype);
  const int64_t batch = q.size(0), queries = q.size(1), keys = k.size(1), size = q.size(2), width = values.size(2);
  std::vector<VisibleKeys> rows = visible_keys(positions, batch, keys);
  const Tensor of_keys = exponentials<T>(k, queries, reference, rows);
  Tensor grad_q = at::zeros_like(q), grad_k = at::zeros_like(k), grad_v = at::zeros_like(v);
  Tensor grad_values = at::zeros_like(values);
  AdditiveAttentionBackward<T> p{batch,
                                 queries,
                                 keys,
                                 size,
                                 width,
                                 rows.data(),
                                 q.const_data_ptr<T>(),
                                 k.const_data_ptr<T>(),
                                 data_or_null<T>(of_keys),
                                 v.const_data_ptr<T>(),
                                 values.const_data_ptr<T>(),
                                 context.const_data_ptr<T>(),
                                 grad_context.const_data_ptr<T>(),
                                 lse.const_data_ptr<T>(),
                                 grad_lse.const_data_ptr<T>(),
                                 grad_q.mutable_data_ptr<T>(),
                                 grad_k.mutable_data_ptr<T>(),
                                 grad_v.mutable_data_ptr<T>(),
                                 grad_values.mutable_data_ptr<T>(),
                                 0,
                                 nullptr,
                                 nullptr};
  if (reference) {
    additive_attention_backward_reference(p);
    return {grad_q, grad_k, grad_v, grad_values};
  }
  const int64_t parts = additive_attention_parts(keys);
  const int64_t together = std::min(batch, (kItemsTogether + parts - 1) / parts);
  const Tensor partial_q = at::empty({together, parts, queries, size}, q.options());
  const Tensor partial_v = at::empty({batch * parts, size}, q.options());
  p.partial_q = partial_q.mutable_data_ptr<T>();
  p.partial_v = partial_v.mutable_data_ptr<T>();
  for (; p.first_row < batch; p.first_row += together) {
    const int64_t last = std::min(batch, p.first_row + together);
    at::parallel_for(0, (last - p.first_row) * parts, grain(queries * (keys / parts) * (size + width)),
                     [&](int64_t begin, int64_t end) { additive_attention_backward(p, begin, end); });
    join_parts(p, p.first_row, last);
  }
  return {grad_q, grad_k, partial_v.sum(0), grad_values};
}

Gradients backward_cpu(const Tensor& grad_context, const Tensor& grad_lse, const Tensor& q, const Tensor& k,
                       const Tensor& v, const Tensor& values, const Tensor& context, const Tensor& lse,
                       const OptionalTensor& positions, bool reference) {
  return compute_dtype(q) == at::kDouble
             ? run_backward<double>(grad_context, grad_lse, q, k, v, values, context, lse, positions, reference)
             : run_backward<float>(grad_context, grad_lse, q, k, v, values, context, lse, positions, reference);
}

Gradients backward_meta(const Tensor&, const Tensor&, const Tensor& q, const Tensor& k, const Tensor& v,
                        const Tensor& values, const Tensor&, const Tensor&, const OptionalTensor&, bool) {
  const auto like = [&](const Tensor& t) {
    return at::empty_symint(t.sym_sizes(), t.options().dtype(compute_dtype(q)));
  };
  return {like(q), like(k), like(v), like(values)};
}

Outputs call_forward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& values,
                     const OptionalTensor& positions, bool reference) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("hippodrome::_additive_attention_forward", "")
                             .typed<decltype(forward_cpu)>();
  return op.call(q, k, v, values, positions, reference);
}

class AdditiveAttention : public torch::autograd::Function<AdditiveAttention> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context, const Tensor& q,
                                                const Tensor& k, const Tensor& v, const Tensor& values,
                                                const OptionalTensor& positions, bool reference) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [c, lse] = call_forward(q, k, v, values, positions, reference);
    context->save_for_backward({q, k, v, values, c, lse, positions.value_or(Tensor())});
    context->saved_data["reference"] = reference;
    return {c, lse};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("hippodrome::_additive_attention_backward", "")
                               .typed<decltype(backward_cpu)>();
    const auto saved = context->get_saved_variables();
    const Tensor& positions = saved[6];
    auto [q, k, v, values] = op.call(grads[0], grads[1], saved[0], saved[1], saved[2], saved[3], saved[4], saved[5],
                                     positions.defined() ? OptionalTensor(positions) : std::nullopt,
                                     context->saved_data["reference"].toBool());
    const auto dtype = saved[0].scalar_type();
    return {q.to(dtype), k.to(dtype), v.to(dtype), values.to(dtype), Tensor(), Tensor()};
  }
};

template <bool kReference>
Outputs without_autograd(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& values,
                         const OptionalTensor& positions) {
  return call_forward(q, k, v, values, positions, kReference);
}

template <bool kReference>
Outputs with_autograd(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& values,
                      const OptionalTensor& positions) {
  if (!at::GradMode::is_enabled() ||
      !(q.requires_grad() || k.requires_grad() || v.requires_grad() || values.requires_grad())) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return without_autograd<kReference>(q, k, v, values, positions);
  }
  const auto outputs = AdditiveAttention::apply(q, k, v, values, positions, kReference);
  return {outputs[0], outputs[1]};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(hippodrome, m) {
  m.def(
      "additive_attention(Tensor queries, Tensor keys, Tensor v, Tensor values, Tensor? positions=None)"
      " -> (Tensor context, Tensor lse)");
  m.def(
      "additive_attention_reference(Tensor queries, Tensor keys, Tensor v, Tensor values, Tensor? positions=None)"
      " -> (Tensor context, Tensor lse)");
  m.def("additive_attention_weights(Tensor queries, Tensor keys, Tensor v, Tensor? positions=None) -> Tensor");
  m.def(
      "additive_attention_weights_reference(Tensor queries, Tensor keys, Tensor v, Tensor? positions=None) -> Tensor");
  m.def(
      "_additive_attention_forward(Tensor queries, Tensor keys, Tensor v, Tensor values, Tensor? positions,"
      " bool reference) -> (Tensor context, Tensor lse)");
  m.def(
      "_additive_attention_backward(Tensor grad_context, Tensor grad_lse, Tensor queries, Tensor keys, Tensor v,"
      " Tensor values, Tensor context, Tensor lse, Tensor? positions, bool reference)"
      " -> (Tensor grad_queries, Tensor grad_keys, Tensor grad_v, Tensor grad_values)");
}

TORCH_LIBRARY_IMPL(hippodrome, CompositeExplicitAutograd, m) {
  m.impl("additive_attention", without_autograd<false>);
  m.impl("additive_attention_reference", without_autograd<true>);
}

TORCH_LIBRARY_IMPL(hippodrome, Autograd, m) {
  m.impl("additive_attention", with_autograd<false>);
  m.impl("additive_attention_reference", with_autograd<true>);
  m.impl("additive_attention_weights", torch::autograd::autogradNotImplementedFallback());
  m.impl("additive_attention_weights_reference", torch::autograd::autogradNotImplementedFallback());
  m.impl("_additive_attention_forward", torch::autograd::autogradNotImplementedFallback());
  m.impl("_additive_attention_backward", torch::autograd::autogradNotImplementedFallback());
}

TORCH_LIBRARY_IMPL(hippodrome, CPU, m) {
  m.impl("additive_attention_weights", weights_cpu<false>);
  m.impl("additive_attention_weights_reference", weights_cpu<true>);
  m.impl("_additive_attention_forward", forward_cpu);
  m.impl("_additive_attention_backward", backward_cpu);
}

TORCH_LIBRARY_IMPL(hippodrome, Meta, m) {
  m.impl("additive_attention_weights", weights_meta);
  m.impl("additive_attention_weights_reference", weights_meta);
  m.impl("_additive_attention_forward", forward_meta);
  m.impl("_additive_attention_backward", backward_meta);
}

}  // namespace additive_attention_op

std::tuple<at::Tensor, at::Tensor> additive_attention(const at::Tensor& queries, const at::Tensor& keys,
                                                      const at::Tensor& v, const at::Tensor& values,
                                                      const std::optional<at::Tensor>& positions, bool reference) {
  using Signature = decltype(additive_attention_op::without_autograd<false>);
  static const auto fused =
      c10::Dispatcher::singleton().findSchemaOrThrow("hippodrome::additive_attention", "").typed<Signature>();
  static const auto plain =
      c10::Dispatcher::singleton().findSchemaOrThrow("hippodrome::additive_attention_reference", "").typed<Signature>();
  return (reference ? plain : fused).call(queries, keys, v, values, positions);
}

at::Tensor additive_attention_weights(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& v,
                                      const std::optional<at::Tensor>& positions, bool reference) {
  using Signature = decltype(additive_attention_op::weights_meta);
  static const auto fused =
      c10::Dispatcher::singleton().findSchemaOrThrow("hippodrome::additive_attention_weights", "").typed<Signature>();
  static const auto plain = c10::Dispatcher::singleton()
                                .findSchemaOrThrow("hippodrome::additive_attention_weights_reference", "")
                                .typed<Signature>();
  return (reference ? plain : fused).call(queries, keys, v, positions);
}

}  // namespace hippodrome
