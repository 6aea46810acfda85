// From LibTorch tensors to the CUDA kernels of additive attention and back.
#pragma once

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include <array>
#include <optional>
#include <tuple>

#include "architectures/recurrent/additive_attention/binding.h"
#include "architectures/recurrent/additive_attention/cuda.h"
#include "core/cuda/binding.h"

namespace hippodrome::additive_cuda {

// What starts the kernels: the entries of cuda.h, or emulations of them.
struct Kernels {
  const char* (*forward)(const Forward&, void*);
  const char* (*weights)(const Weights&, void*);
  const char* (*backward)(const Backward&, void*);
  void* stream = nullptr;
};

// Contiguous inputs; `owners` keeps what they point to.
struct BoundInputs {
  Inputs in;
  std::array<Tensor, 5> owners;
};
inline BoundInputs bind_inputs(const Tensor& q, const Tensor& k, const Tensor& v, const OptionalTensor& values,
                               const OptionalTensor& positions) {
  BoundInputs bound;
  const std::array<OptionalTensor, 5> tensors{q, k, v, values, positions};
  for (size_t i = 0; i < tensors.size(); ++i) {
    TORCH_CHECK(!given(tensors[i]) || tensors[i]->device() == q.device(), "additive_attention: tensors on ", q.device(),
                " and on ", tensors[i]->device());
    bound.owners[i] = contiguous_if_given(tensors[i]);
  }
  Inputs& in = bound.in;
  in.element = cuda::element_of(q.scalar_type());
  in.batch = q.size(0), in.queries = q.size(1), in.keys = k.size(1), in.size = q.size(2);
  in.width = given(values) ? values->size(2) : 0;
  in.q = bound.owners[0].const_data_ptr();
  in.k = bound.owners[1].const_data_ptr();
  in.v = bound.owners[2].const_data_ptr();
  in.values = given(values) ? bound.owners[3].const_data_ptr() : nullptr;
  in.positions = data_or_null<int64_t>(bound.owners[4]);
  return bound;
}

inline int64_t blocks(const Inputs& in, int64_t rows, int64_t rows_of_block) {
  return in.batch * ((rows + rows_of_block - 1) / rows_of_block);
}

inline additive_attention_op::Outputs forward(const Kernels& kernels, const Tensor& q, const Tensor& k, const Tensor& v,
                                              const Tensor& values, const OptionalTensor& positions) {
  additive_attention_op::check(q, k, v, values, positions);
  Forward p;
  const BoundInputs bound = bind_inputs(q, k, v, values, positions);
  const Inputs& in = p.in = bound.in;
  p.splits = splits(blocks(in, in.queries, query_rows(in.queries)), in.keys);
  const auto scalars = q.options().dtype(compute_dtype(q));
  const Tensor partial = at::zeros({p.splits, in.batch, in.queries, in.width}, scalars);
  Tensor context = partial[0], lse = additive_attention_op::make_lse(q), maximum, total;
  p.partial = partial.mutable_data_ptr();
  p.lse = lse.mutable_data_ptr();
  if (p.splits > 1) {
    maximum = at::empty({p.splits, in.batch, in.queries}, scalars), total = at::empty_like(maximum);
    context = at::empty({in.batch, in.queries, in.width}, scalars);
    p.maximum = maximum.mutable_data_ptr();
    p.total = total.mutable_data_ptr();
    p.context = context.mutable_data_ptr();
  }
  cuda::check_started("additive_attention", kernels.forward(p, kernels.stream));
  return {context.to(q.scalar_type()), lse};
}

inline Tensor weights(const Kernels& kernels, const Tensor& q, const Tensor& k, const Tensor& v,
                      const OptionalTensor& positions) {
  additive_attention_op::check(q, k, v, positions);
  Weights p;
  const BoundInputs bound = bind_inputs(q, k, v, std::nullopt, positions);
  p.in = bound.in;
  const Tensor result = at::empty({p.in.batch, p.in.queries, p.in.keys}, q.options().dtype(compute_dtype(q)));
  p.weights = result.mutable_data_ptr();
  cuda::check_started("additive_attention_weights", kernels.weights(p, kernels.stream));
  return result.to(q.scalar_type());
}

// The adjoint of the queries alone, or of all; what is not asked for is undefined. In the compute dtype.
inline additive_attention_op::Gradients differentiate(const Kernels& kernels, const Tensor& grad_context_in,
                                                      const Tensor& grad_lse, const Tensor& q, const Tensor& k,
                                                      const Tensor& v, const Tensor& values, const Tensor& context,
                                                      const Tensor& lse_in, const OptionalTensor& positions, bool all) {
  Backward p;
  const BoundInputs bound = bind_inputs(q, k, v, values, positions);
  const Inputs& in = p.in = bound.in;
  const auto dtype = compute_dtype(q);
  const Tensor grad_context = grad_context_in.to(q.scalar_type()).contiguous(), lse = lse_in.contiguous();
  const Tensor common = grad_context.to(dtype).mul(context.to(dtype)).sum(-1).sub(grad_lse).contiguous();
  const int64_t query_blocks = blocks(in, in.queries, query_rows(in.queries));
  p.key_splits = splits(query_blocks, in.keys);
  p.query_splits = splits(blocks(in, in.keys, kTileRows), in.queries);
  p.grad_context = grad_context.const_data_ptr();
  p.lse = lse.const_data_ptr();
  p.common = common.const_data_ptr();
  const auto zeros = [&](at::IntArrayRef sizes) { return at::zeros(sizes, q.options().dtype(dtype)); };
  const Tensor grad_q = zeros({p.key_splits, in.batch, in.queries, in.size});
  p.grad_q = grad_q.mutable_data_ptr();
  Tensor grad_v, grad_k, grad_values;
  if (all) {
    grad_v = zeros({query_blocks * p.key_splits, in.size});
    grad_k = zeros({p.query_splits, in.batch, in.keys, in.size});
    grad_values = zeros({p.query_splits, in.batch, in.keys, in.width});
    p.grad_v = grad_v.mutable_data_ptr();
    p.grad_k = grad_k.mutable_data_ptr();
    p.grad_values = grad_values.mutable_data_ptr();
  }
  cuda::check_started("additive_attention", kernels.backward(p, kernels.stream));
  const auto added = [](const Tensor& parts) { return parts.size(0) == 1 ? parts[0] : parts.sum(0); };
  if (!all) return {added(grad_q), Tensor(), Tensor(), Tensor()};
  return {added(grad_q), added(grad_k), grad_v.sum(0), added(grad_values)};
}

inline additive_attention_op::Gradients backward(const Kernels& kernels, const Tensor& grad_context,
                                                 const Tensor& grad_lse, const Tensor& q, const Tensor& k,
                                                 const Tensor& v, const Tensor& values, const Tensor& context,
                                                 const Tensor& lse, const OptionalTensor& positions) {
  return differentiate(kernels, grad_context, grad_lse, q, k, v, values, context, lse, positions, true);
}

inline Tensor grad_queries(const Kernels& kernels, const Tensor& grad_context, const Tensor& grad_lse, const Tensor& q,
                           const Tensor& k, const Tensor& v, const Tensor& values, const Tensor& context,
                           const Tensor& lse, const OptionalTensor& positions) {
  return std::get<0>(differentiate(kernels, grad_context, grad_lse, q, k, v, values, context, lse, positions, false));
}

}  // namespace hippodrome::additive_cuda
