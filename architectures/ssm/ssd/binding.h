// From LibTorch tensors to the kernels' parameters: checks, layouts, allocation.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/ScalarType.h>
#include <c10/util/Exception.h>

#include <optional>

#include "architectures/ssm/ssd/op.h"
#include "architectures/ssm/ssd/ssd.h"
#include "core/tensor/op_binding.h"

namespace hippodrome::ssd_kernel {

using Arguments = SsdArguments;

// What the operators take, in the order of the members of Arguments (scan_operator.h).
using OperatorParameters = void(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& A, const at::Tensor& B,
                                const at::Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
                                const OptionalTensor& dt_bias, bool dt_softplus, double dt_low,
                                std::optional<double> dt_high, int64_t chunk, const OptionalTensor& initial_state,
                                const OptionalTensor& positions);

struct Outputs {
  at::Tensor y;            // [B, L, H, P]
  at::Tensor last_state;   // [B, H, P, N]
  at::Tensor checkpoints;  // [B, ceil(L / chunk), H, N, P], or undefined
};

// Of the shapes of the inputs; an absent input's has no elements.
struct InputGradients {
  at::Tensor x, dt, A, B, C, D, z, dt_bias, initial_state;
};

// Shapes and dtypes; symbolic sizes are read, so that the check also runs on meta and fake tensors.
inline void check_arguments(const Arguments& a) {
  const auto fail_unless = [](bool good, const char* what) { TORCH_CHECK(good, "ssd: ", what); };
  fail_unless(a.x.dim() == 4, "x must be [B, L, H, P]");
  fail_unless(a.B.dim() == 4, "B must be [B, L, G, N]");
  const c10::SymInt batch = a.x.sym_size(0), length = a.x.sym_size(1), heads = a.x.sym_size(2),
                    head_size = a.x.sym_size(3), groups = a.B.sym_size(2), states = a.B.sym_size(3);
  fail_unless(head_size >= 1 && head_size <= kMaxHeadSize, "x must be [B, L, H, P] with P from 1 to 1024");
  fail_unless(states >= 1 && states <= kMaxStates, "B must be [B, L, G, N] with N from 1 to 1024");
  fail_unless(groups >= 1 && heads % groups == 0, "the heads H must divide into the groups G of B");
  fail_unless(has_shape(a.dt, {batch, length, heads}), "dt must be [B, L, H]");
  fail_unless(has_shape(a.A, {heads}), "A must be [H]");
  fail_unless(has_shape(a.B, {batch, length, groups, states}) && has_shape(a.C, {batch, length, groups, states}),
              "B and C must both be [B, L, G, N]");
  fail_unless(!a.D.has_value() || has_shape(*a.D, {heads}), "D must be [H]");
  fail_unless(!a.z.has_value() || has_shape(*a.z, {batch, length, heads, head_size}),
              "z must have the shape of x, [B, L, H, P]");
  fail_unless(!a.dt_bias.has_value() || has_shape(*a.dt_bias, {heads}), "dt_bias must be [H]");
  fail_unless(!a.initial_state.has_value() || has_shape(*a.initial_state, {batch, heads, head_size, states}),
              "initial_state must be [B, H, P, N]");
  fail_unless(!a.dt_high.has_value() || a.dt_low <= *a.dt_high, "dt_low must not exceed dt_high");
  fail_unless(a.chunk >= 1 && a.chunk <= 4096, "chunk must be from 1 to 4096");
  if (a.positions.has_value()) {
    fail_unless(has_shape(*a.positions, {batch, length}), "positions must be [B, L]");
    fail_unless(a.positions->scalar_type() == at::kLong, "positions must be int64");
  }
  const auto real = [&](const at::Tensor& t) {
    return at::isFloatingType(t.scalar_type()) && t.device() == a.x.device();
  };
  const auto real_if_given = [&](const std::optional<at::Tensor>& t) { return !t.has_value() || real(*t); };
  fail_unless(real(a.x) && real(a.dt) && real(a.A) && real(a.B) && real(a.C) && real_if_given(a.D) &&
                  real_if_given(a.z) && real_if_given(a.dt_bias) && real_if_given(a.initial_state),
              "all tensors must be real floating-point tensors on one device");
}

// `t` itself, or a copy in the layout and dtype of the kernels: all axes behind [B, L] contiguous.
inline at::Tensor in_rows(const at::Tensor& t, at::ScalarType dtype) {
  const at::Tensor rows = t.to(dtype);
  int64_t expected = 1;
  for (int64_t axis = rows.dim() - 1; axis >= 2; --axis) {
    if (rows.size(axis) != 1 && rows.stride(axis) != expected) return rows.contiguous();
    expected *= rows.size(axis);
  }
  return rows;
}

// Keeps in `owner` what the returned pointers point to.
template <class T>
Strided<const T> bind_rows(const at::Tensor& t, at::Tensor& owner) {
  owner = in_rows(t, c10::CppTypeToScalarType<T>::value);
  return {owner.const_data_ptr<T>(), owner.stride(0), owner.stride(1)};
}

// The inputs as the kernels take them, and the tensors that hold them.
template <class T>
struct Bound {
  explicit Bound(const Arguments& a) {
    params.batch = a.x.size(0), params.length = a.x.size(1), params.heads = a.x.size(2), params.head_size = a.x.size(3);
    params.groups = a.B.size(2), params.states = a.B.size(3);
    params.chunk = a.chunk;
    params.dt_softplus = a.dt_softplus, params.dt_low = a.dt_low;
    if (a.dt_high.has_value()) params.dt_high = *a.dt_high;
    params.x = bind_rows<T>(a.x, owners[0]);
    params.dt = bind_rows<T>(a.dt, owners[1]);
    params.A = bind_contiguous<T>(a.A, owners[2]);
    params.B = bind_rows<T>(a.B, owners[3]);
    params.C = bind_rows<T>(a.C, owners[4]);
    if (a.D.has_value()) params.D = bind_contiguous<T>(*a.D, owners[5]);
    if (a.z.has_value()) params.z = bind_rows<T>(*a.z, owners[6]);
    if (a.dt_bias.has_value()) params.dt_bias = bind_contiguous<T>(*a.dt_bias, owners[7]);
    if (a.initial_state.has_value()) params.initial_state = bind_contiguous<T>(*a.initial_state, owners[8]);
    if (a.positions.has_value()) params.positions = bind_contiguous<int64_t>(*a.positions, owners[9]);
  }

  Params<T> params;
  at::Tensor owners[10];
};

// Without `state` a last state of its own.
template <class T>
Outputs allocate_outputs(const Params<T>& p, const Arguments& a, bool keep, const at::Tensor& state) {
  const auto options = a.x.options().dtype(c10::CppTypeToScalarType<T>::value);
  return {
      at::empty(a.x.sizes(), options),
      state.defined() ? state : at::empty({p.batch, p.heads, p.head_size, p.states}, options),
      keep ? at::empty({p.batch, chunks(p.length, p.chunk), p.heads, p.states, p.head_size}, options) : at::Tensor()};
}

template <class T>
InputGradients allocate_gradients(const Arguments& a) {
  const auto options = a.x.options().dtype(c10::CppTypeToScalarType<T>::value);
  const auto like = [&](const at::Tensor& t) { return at::empty(t.sizes(), options); };
  const auto like_if_given = [&](const std::optional<at::Tensor>& t) {
    return t.has_value() ? at::empty(t->sizes(), options) : at::empty({0}, options);
  };
  return {like(a.x),
          like(a.dt),
          like(a.A),
          like(a.B),
          like(a.C),
          like_if_given(a.D),
          like_if_given(a.z),
          like_if_given(a.dt_bias),
          like_if_given(a.initial_state)};
}

// Gradients in the dtypes of their inputs.
inline InputGradients cast_to_inputs(const InputGradients& g, const Arguments& a) {
  const auto like = [](const at::Tensor& t, const at::Tensor& input) { return t.to(input.scalar_type()); };
  const auto like_if_given = [&](const at::Tensor& t, const std::optional<at::Tensor>& input) {
    return t.to(input.has_value() ? input->scalar_type() : a.x.scalar_type());
  };
  return {like(g.x, a.x),
          like(g.dt, a.dt),
          like(g.A, a.A),
          like(g.B, a.B),
          like(g.C, a.C),
          like_if_given(g.D, a.D),
          like_if_given(g.z, a.z),
          like_if_given(g.dt_bias, a.dt_bias),
          like_if_given(g.initial_state, a.initial_state)};
}

}  // namespace hippodrome::ssd_kernel
