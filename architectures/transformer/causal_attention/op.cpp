// hippodrome::causal_attention: schema, checks, autograd, meta and the CPU binding.
#include "architectures/transformer/causal_attention/op.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/zeros.h>
#include <c10/util/DimVector.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "architectures/transformer/causal_attention/causal_attention.h"
#include "architectures/transformer/causal_attention/reference.h"
#include "core/tensor/flop_meter.h"

namespace hippodrome {
namespace causal_attention_op {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;
using Outputs = std::tuple<Tensor, Tensor>;
using Gradients = std::tuple<Tensor, Tensor, Tensor>;

bool given(const OptionalTensor& t) { return t.has_value() && t->defined(); }

at::ScalarType compute_dtype(const Tensor& q) { return q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

void check(const Tensor& q, const Tensor& k, const Tensor& v, int64_t window, const OptionalTensor& positions) {
  const auto dtype = q.scalar_type();
  TORCH_CHECK(dtype == at::kFloat || dtype == at::kDouble || dtype == at::kBFloat16,
              "causal_attention: q must be float32, float64 or bfloat16, not ", dtype);
  TORCH_CHECK(k.scalar_type() == dtype && v.scalar_type() == dtype,
              "causal_attention: q, k and v must have one dtype, not ", dtype, ", ", k.scalar_type(), " and ",
              v.scalar_type());
  TORCH_CHECK(q.dim() == 4 && k.dim() == 4 && v.dim() == 4 && k.sym_sizes() == v.sym_sizes() &&
                  q.sym_size(0) == k.sym_size(0) && q.sym_size(3) == k.sym_size(3),
              "causal_attention: q must be [B, H, L, hd] and k, v [B, G, T, hd], got ", q.sym_sizes(), ", ",
              k.sym_sizes(), " and ", v.sym_sizes());
  TORCH_CHECK(k.sym_size(1) > 0 && q.sym_size(1) % k.sym_size(1) == 0,
              "causal_attention: the heads of q must be a multiple of those of k, got ", q.sym_size(1), " and ",
              k.sym_size(1));
  TORCH_CHECK(k.sym_size(2) >= q.sym_size(2),
              "causal_attention: the queries are the last of the tokens, of which there are ", k.sym_size(2),
              ", fewer than the ", q.sym_size(2), " queries");
  TORCH_CHECK(window >= 0, "causal_attention: window must not be negative; 0 shows all tokens before");
  TORCH_CHECK(!given(positions) || (positions->scalar_type() == at::kLong && positions->dim() == 2 &&
                                    positions->sym_size(0) == k.sym_size(0) && positions->sym_size(1) == k.sym_size(2)),
              "causal_attention: positions must be int64 [B, T] = [", k.sym_size(0), ", ", k.sym_size(2), "]");
}

// Memory [B, heads, tokens, hd], stored as [B, tokens, heads, hd]; `zero`: of zeros.
Tensor tokens_first(const Tensor& like, at::ScalarType dtype, bool zero) {
  const c10::SymDimVector sizes{like.sym_size(0), like.sym_size(2), like.sym_size(1), like.sym_size(3)};
  const auto options = like.options().dtype(dtype);
  return (zero ? at::zeros_symint(sizes, options) : at::empty_symint(sizes, options)).transpose(1, 2);
}

// Kernels write what belongs to tokens, and nothing of padding.
Outputs make_outputs(const Tensor& q, at::ScalarType dtype, bool zero) {
  const c10::SymDimVector sizes{q.sym_size(0), q.sym_size(1), q.sym_size(2)};
  const auto options = q.options().dtype(compute_dtype(q));
  return {tokens_first(q, dtype, zero), zero ? at::zeros_symint(sizes, options) : at::empty_symint(sizes, options)};
}

// As the kernels read it: in the compute dtype, heads contiguous.
Tensor readable(const Tensor& t, at::ScalarType dtype) {
  const Tensor wide = t.to(dtype);
  return wide.stride(3) == 1 || wide.size(3) == 1 ? wide : wide.contiguous();
}

template <class T>
AttentionHeads<const T> heads(const Tensor& t) {
  return {t.const_data_ptr<T>(), t.stride(0), t.stride(1), t.stride(2)};
}
template <class T>
AttentionHeads<T> mutable_heads(const Tensor& t) {
  return {t.mutable_data_ptr<T>(), t.stride(0), t.stride(1), t.stride(2)};
}

std::vector<SeenTokens> seen_tokens(const Tensor& q, const Tensor& k, int64_t window,
                                    const OptionalTensor& positions_in) {
  const Tensor positions = given(positions_in) ? positions_in->contiguous() : Tensor();
  std::vector<SeenTokens> rows;
  for (int64_t b = 0; b < q.size(0); ++b) {
    rows.emplace_back(positions.defined() ? positions.const_data_ptr<int64_t>() + b * k.size(2) : nullptr, k.size(2),
                      q.size(2), window);
  }
  return rows;
}

double scale_of(const Tensor& q, std::optional<double> scale) {
  return scale ? *scale : 1.0 / std::sqrt(static_cast<double>(q.size(3)));
}

// Items per thread: below some 10^5 multiply-adds a second thread costs more than it saves.
int64_t grain(int64_t work_per_item) { return std::max<int64_t>(1, 100'000 / std::max<int64_t>(1, work_per_item)); }

template <class T>
Outputs run_forward(const Tensor& q_in, const Tensor& k_in, const Tensor& v_in, std::optional<double> scale,
                    int64_t window, const OptionalTensor& positions, bool reference) {
  const auto dtype = compute_dtype(q_in);
  const Tensor q = readable(q_in, dtype), k = readable(k_in, dtype), v = readable(v_in, dtype);
  const std::vector<SeenTokens> rows = seen_tokens(q, k, window, positions);
  auto [y, lse] = make_outputs(q, dtype, given(positions) || reference);
  CausalAttentionForward<T> p{q.size(0),
                              q.size(1),
                              k.size(1),
                              q.size(2),
                              k.size(2),
                              q.size(3),
                              static_cast<T>(scale_of(q, scale)),
                              rows.data(),
                              heads<T>(q),
                              heads<T>(k),
                              heads<T>(v),
                              mutable_heads<T>(y),
                              lse.template mutable_data_ptr<T>(),
                              nullptr};
  const int64_t shared = p.heads / p.kv_heads, seen = window > 0 ? std::min(window, p.keys) : p.keys;
  if (q.numel() == 0) {
    return {y.to(q_in.scalar_type()), lse};
  }
  if (reference) {
    run_counted(p, [](const auto& params) { causal_attention_forward_reference(params); });
  } else if (p.queries * shared <= kAttentionStepRows) {
    const int64_t chunks = causal_attention_chunks(p.keys);
    const Tensor partial = at::empty({p.batch * p.heads * p.queries * chunks, p.size + 2}, q.options());
    p.partial = partial.template mutable_data_ptr<T>();
    at::parallel_for(0, p.batch * p.kv_heads * chunks,
                     grain(2 * p.queries * shared * std::min(seen, kAttentionStepKeys) * p.size),
                     [&](int64_t begin, int64_t end) { causal_attention_step(p, begin, end); });
    at::parallel_for(0, p.batch * p.heads, grain(p.queries * chunks * p.size),
                     [&](int64_t begin, int64_t end) { causal_attention_join(p, begin, end); });
  } else {
    at::parallel_for(0, p.batch * p.heads * causal_attention_blocks(p.queries),
                     grain(2 * kAttentionQueries * seen * p.size),
                     [&](int64_t begin, int64_t end) { causal_attention_forward(p, begin, end); });
  }
  return {y.to(q_in.scalar_type()), lse};
}

Outputs forward_cpu(const Tensor& q, const Tensor& k, const Tensor& v, std::optional<double> scale, int64_t window,
                    const OptionalTensor& positions, bool reference) {
  check(q, k, v, window, positions);
  return compute_dtype(q) == at::kDouble ? run_forward<double>(q, k, v, scale, window, positions, reference)
                                         : run_forward<float>(q, k, v, scale, window, positions, reference);
}

Outputs forward_meta(const Tensor& q, const Tensor& k, const Tensor& v, std::optional<double>, int64_t window,
                     const OptionalTensor& positions, bool) {
  check(q, k, v, window, positions);
  return make_outputs(q, q.scalar_type(), false);
}

Gradients make_gradients(const Tensor& q, const Tensor& k, at::ScalarType dtype, bool zero) {
  return {tokens_first(q, dtype, zero), tokens_first(k, dtype, zero), tokens_first(k, dtype, zero)};
}

template <class T>
Gradients run_backward(const Tensor& grad_y_in, const Tensor& grad_lse_in, const Tensor& q_in, const Tensor& k_in,
                       const Tensor& v_in, const Tensor& y_in, const Tensor& lse, std::optional<double> scale,
                       int64_t window, const OptionalTensor& positions, bool reference) {
  const auto dtype = compute_dtype(q_in);
  const Tensor q = readable(q_in, dtype), k = readable(k_in, dtype), v = readable(v_in, dtype),
               y = readable(y_in, dtype);
  const Tensor grad_y = readable(grad_y_in, dtype), grad_lse = grad_lse_in.contiguous();
  const std::vector<SeenTokens> rows = seen_tokens(q, k, window, positions);
  // Without queries nothing is written.
  Gradients gradients = make_gradients(q, k, dtype, given(positions) || reference || q.numel() == 0);
  const CausalAttentionBackward<T> p{q.size(0),
                                     q.size(1),
                                     k.size(1),
                                     q.size(2),
                                     k.size(2),
                                     q.size(3),
                                     static_cast<T>(scale_of(q, scale)),
                                     rows.data(),
                                     heads<T>(q),
                                     heads<T>(k),
                                     heads<T>(v),
                                     heads<T>(y),
                                     heads<T>(grad_y),
                                     lse.const_data_ptr<T>(),
                                     grad_lse.const_data_ptr<T>(),
                                     mutable_heads<T>(std::get<0>(gradients)),
                                     mutable_heads<T>(std::get<1>(gradients)),
                                     mutable_heads<T>(std::get<2>(gradients))};
  if (q.numel() == 0) {
    return gradients;
  }
  if (reference) {
    causal_attention_backward_reference(p);
  } else {
    at::parallel_for(0, p.batch * p.kv_heads, grain(5 * p.heads / p.kv_heads * p.queries * p.keys * p.size),
                     [&](int64_t begin, int64_t end) { causal_attention_backward(p, begin, end); });
  }
  return gradients;
}

Gradients backward_cpu(const Tensor& grad_y, const Tensor& grad_lse, const Tensor& q, const Tensor& k, const Tensor& v,
                       const Tensor& y, const Tensor& lse, std::optional<double> scale, int64_t window,
                       const OptionalTensor& positions, bool reference) {
  return compute_dtype(q) == at::kDouble
             ? run_backward<double>(grad_y, grad_lse, q, k, v, y, lse, scale, window, positions, reference)
             : run_backward<float>(grad_y, grad_lse, q, k, v, y, lse, scale, window, positions, reference);
}

Gradients backward_meta(const Tensor&, const Tensor&, const Tensor& q, const Tensor& k, const Tensor&, const Tensor&,
                        const Tensor&, std::optional<double>, int64_t, const OptionalTensor&, bool) {
  return make_gradients(q, k, compute_dtype(q), false);
}

Outputs call_forward(const Tensor& q, const Tensor& k, const Tensor& v, std::optional<double> scale, int64_t window,
                     const OptionalTensor& positions, bool reference) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("hippodrome::_causal_attention_forward", "")
                             .typed<decltype(forward_cpu)>();
  return op.call(q, k, v, scale, window, positions, reference);
}

class CausalAttention : public torch::autograd::Function<CausalAttention> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context, const Tensor& q,
                                                const Tensor& k, const Tensor& v, std::optional<double> scale,
                                                int64_t window, const OptionalTensor& positions, bool reference) {
    at::AutoDispatchBelowADInplaceOrView guard;
    auto [y, lse] = call_forward(q, k, v, scale, window, positions, reference);
    context->save_for_backward({q, k, v, y, lse, positions.value_or(Tensor())});
    context->saved_data["scale"] = scale;
    context->saved_data["window"] = window;
    context->saved_data["reference"] = reference;
    return {y, lse};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("hippodrome::_causal_attention_backward", "")
                               .typed<decltype(backward_cpu)>();
    const auto saved = context->get_saved_variables();
    const Tensor &q = saved[0], &positions = saved[5];
    auto [grad_q, grad_k, grad_v] = op.call(
        grads[0], grads[1], q, saved[1], saved[2], saved[3], saved[4],
        context->saved_data["scale"].toOptional<double>(), context->saved_data["window"].toInt(),
        positions.defined() ? OptionalTensor(positions) : std::nullopt, context->saved_data["reference"].toBool());
    const auto dtype = q.scalar_type();
    return {grad_q.to(dtype), grad_k.to(dtype), grad_v.to(dtype), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

template <bool kReference>
Outputs without_autograd(const Tensor& q, const Tensor& k, const Tensor& v, std::optional<double> scale, int64_t window,
                         const OptionalTensor& positions) {
  return call_forward(q, k, v, scale, window, positions, kReference);
}

template <bool kReference>
Outputs with_autograd(const Tensor& q, const Tensor& k, const Tensor& v, std::optional<double> scale, int64_t window,
                      const OptionalTensor& positions) {
  if (!at::GradMode::is_enabled() || !(q.requires_grad() || k.requires_grad() || v.requires_grad())) {
    at::AutoDispatchBelowADInplaceOrView guard;
    return without_autograd<kReference>(q, k, v, scale, window, positions);
  }
  const auto outputs = CausalAttention::apply(q, k, v, scale, window, positions, kReference);
  return {outputs[0], outputs[1]};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(hippodrome, m) {
  m.def(
      "causal_attention(Tensor q, Tensor k, Tensor v, float? scale=None, int window=0, Tensor? positions=None)"
      " -> (Tensor y, Tensor lse)");
  m.def(
      "causal_attention_reference(Tensor q, Tensor k, Tensor v, float? scale=None, int window=0, Tensor? "
      "positions=None)"
      " -> (Tensor y, Tensor lse)");
  m.def(
      "_causal_attention_forward(Tensor q, Tensor k, Tensor v, float? scale, int window, Tensor? positions,"
      " bool reference) -> (Tensor y, Tensor lse)");
  m.def(
      "_causal_attention_backward(Tensor grad_y, Tensor grad_lse, Tensor q, Tensor k, Tensor v, Tensor y, Tensor lse,"
      " float? scale, int window, Tensor? positions, bool reference)"
      " -> (Tensor grad_q, Tensor grad_k, Tensor grad_v)");
}

TORCH_LIBRARY_IMPL(hippodrome, CompositeExplicitAutograd, m) {
  m.impl("causal_attention", without_autograd<false>);
  m.impl("causal_attention_reference", without_autograd<true>);
}

TORCH_LIBRARY_IMPL(hippodrome, Autograd, m) {
  m.impl("causal_attention", with_autograd<false>);
  m.impl("causal_attention_reference", with_autograd<true>);
  m.impl("_causal_attention_forward", torch::autograd::autogradNotImplementedFallback());
  m.impl("_causal_attention_backward", torch::autograd::autogradNotImplementedFallback());
}

TORCH_LIBRARY_IMPL(hippodrome, CPU, m) {
  m.impl("_causal_attention_forward", forward_cpu);
  m.impl("_causal_attention_backward", backward_cpu);
}

TORCH_LIBRARY_IMPL(hippodrome, Meta, m) {
  m.impl("_causal_attention_forward", forward_meta);
  m.impl("_causal_attention_backward", backward_meta);
}

}  // namespace causal_attention_op

std::tuple<at::Tensor, at::Tensor> causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                    std::optional<double> scale, int64_t window,
                                                    const std::optional<at::Tensor>& positions, bool reference) {
  using Signature = decltype(causal_attention_op::without_autograd<false>);
  static const auto fused =
      c10::Dispatcher::singleton().findSchemaOrThrow("hippodrome::causal_attention", "").typed<Signature>();
  static const auto plain =
      c10::Dispatcher::singleton().findSchemaOrThrow("hippodrome::causal_attention_reference", "").typed<Signature>();
  return (reference ? plain : fused).call(q, k, v, scale, window, positions);
}

}  // namespace hippodrome
