// wkv4's tensors to the parameters of its CUDA kernels. What starts the kernels is an argument, so that tests run this
// on the CPU with emulated ones.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include "architectures/rwkv/wkv4/binding.h"
#include "architectures/rwkv/wkv4/cuda.h"
#include "core/cuda/binding.h"
#include "core/tensor/op_binding.h"

namespace hippodrome::wkv4_op {

struct CudaKernels {
  const char* (*forward)(const Wkv4CudaForward&, void* stream);
  const char* (*backward)(const Wkv4CudaBackward&, void* stream);
  void* stream;
};

// [B, T, C] as the kernels read it, kept in `owner`: itself where its channels are neighbours, else a copy.
inline Wkv4Tokens bind_tokens(const Tensor& x, at::ScalarType type, Tensor& owner) {
  owner = x.to(type);
  if (owner.stride(2) != 1 && owner.size(2) > 1) owner = owner.contiguous();
  return {owner.const_data_ptr(), owner.stride(0), owner.stride(1)};
}

inline const void* untyped_data_or_null(const Tensor& t) { return t.defined() ? t.const_data_ptr() : nullptr; }

// What both passes read.
class CudaInputs {
 public:
  CudaInputs(const Tensor& w, const Tensor& u, const Tensor& k, const Tensor& v, const OptionalTensor& state,
             const OptionalTensor& positions) {
    check_inputs(w, u, k, v, state, positions);
    for (const OptionalTensor& other : {OptionalTensor(w), OptionalTensor(u), OptionalTensor(v), state, positions}) {
      TORCH_CHECK(!given(other) || other->device() == k.device(), "wkv4: an argument is on ", other->device(),
                  ", but k is on ", k.device());
    }
    type_ = k.scalar_type();
    scalar_ = compute_dtype(k);
    w_ = in_compute_dtype(w, scalar_);
    u_ = in_compute_dtype(u, scalar_);
    k_tokens_ = bind_tokens(k, type_, k_);
    v_tokens_ = bind_tokens(v, type_, v_);
    state_ = in_compute_dtype(state, scalar_);
    positions_ = contiguous_if_given(positions);
    batch = k.size(0), time = k.size(1), channels = k.size(2);
    segment = wkv4_cuda_segment(batch, channels, time);
    segments = wkv4_cuda_segments(time, segment);
  }

  template <class Params>
  void bind(Params& p) const {
    p.batch = batch, p.time = time, p.channels = channels;
    p.segment = segment;
    p.type = cuda::element_of(type_);
    p.w = w_.const_data_ptr(), p.u = u_.const_data_ptr();
    p.k = k_tokens_, p.v = v_tokens_;
    p.state = untyped_data_or_null(state_);
    p.positions = data_or_null<int64_t>(positions_);
  }

  Tensor empty_tokens() const { return at::empty({batch, time, channels}, k_.options()); }
  Tensor empty_scalars(at::IntArrayRef sizes) const { return at::empty(sizes, w_.options()); }
  Tensor workspace(int64_t parts) const { return empty_scalars({batch, segments - 1, parts, channels}); }
  at::ScalarType type() const { return type_; }
  at::ScalarType scalar() const { return scalar_; }

  int64_t batch, time, channels, segment, segments;

 private:
  at::ScalarType type_, scalar_;
  Tensor w_, u_, k_, v_, state_, positions_;
  Wkv4Tokens k_tokens_, v_tokens_;
};

// `checkpoints` of the result is undefined unless it is to be kept.
inline SavedOutputs forward_with(const CudaKernels& kernels, const Tensor& w, const Tensor& u, const Tensor& k,
                                 const Tensor& v, const OptionalTensor& state, const OptionalTensor& positions,
                                 bool keep) {
  const CudaInputs in(w, u, k, v, state, positions);
  Tensor y = in.empty_tokens(), last_state = in.empty_scalars({in.batch, 3, in.channels});
  Tensor checkpoints = keep ? in.empty_scalars({in.batch, wkv4_chunks(in.time), 3, in.channels}) : Tensor();
  const Tensor workspace = in.workspace(4);
  Wkv4CudaForward p;
  in.bind(p);
  p.y = y.mutable_data_ptr();
  p.last_state = last_state.mutable_data_ptr();
  p.checkpoints = keep ? checkpoints.mutable_data_ptr() : nullptr;
  p.workspace = workspace.mutable_data_ptr();
  cuda::check_started("wkv4", kernels.forward(p, kernels.stream));
  return {y, last_state, checkpoints};
}

inline Gradients backward_with(const CudaKernels& kernels, const OptionalTensor& grad_y,
                               const OptionalTensor& grad_last_state, const Tensor& w, const Tensor& u, const Tensor& k,
                               const Tensor& v, const OptionalTensor& state, const OptionalTensor& positions,
                               const Tensor& checkpoints) {
  const CudaInputs in(w, u, k, v, state, positions);
  const auto state_type = given(state) ? state->scalar_type() : in.scalar();
  const Tensor last = in_compute_dtype(grad_last_state, in.scalar());
  Tensor grad_k = in.empty_tokens(), grad_v = in.empty_tokens();
  if (in.time == 0) {  // the state passed through: so does its gradient
    const auto scalars = w.options().dtype(in.scalar());
    const Tensor through = last.defined() ? last.clone() : at::zeros({in.batch, 3, in.channels}, scalars);
    return {at::zeros(w.sizes(), w.options()), at::zeros(u.sizes(), u.options()), grad_k, grad_v,
            through.to(state_type)};
  }
  Tensor grad_state = in.empty_scalars({in.batch, 3, in.channels});
  Tensor parts = in.empty_scalars({2, in.batch, in.segments, in.channels}), grad_y_owner;
  const Tensor workspace = in.workspace(6);
  Wkv4CudaBackward p;
  in.bind(p);
  // No gradient is one row of zeros, read again and again.
  const Tensor gy =
      given(grad_y) ? *grad_y : at::zeros({1, 1, in.channels}, k.options()).expand({in.batch, in.time, in.channels});
  p.grad_y = bind_tokens(gy, in.type(), grad_y_owner);
  p.checkpoints = checkpoints.const_data_ptr();
  p.grad_last_state = untyped_data_or_null(last);
  p.grad_w_parts = parts[0].mutable_data_ptr();
  p.grad_u_parts = parts[1].mutable_data_ptr();
  p.grad_k = grad_k.mutable_data_ptr();
  p.grad_v = grad_v.mutable_data_ptr();
  p.grad_state = grad_state.mutable_data_ptr();
  p.workspace = workspace.mutable_data_ptr();
  cuda::check_started("wkv4", kernels.backward(p, kernels.stream));
  const Tensor sums = parts.sum({1, 2});
  return {sums[0].to(w.scalar_type()), sums[1].to(u.scalar_type()), grad_k, grad_v, grad_state.to(state_type)};
}

}  // namespace hippodrome::wkv4_op
